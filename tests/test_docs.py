"""The documentation: every command in it runs, every link leads somewhere, and every line that it names is the right one."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Project

sys.path.insert(0, str(ROOT / "workflow" / "scripts"))
import paper_lines

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
IN_ORDER = {"own-data.md"}  # their commands follow one another, and tests of their own run them
CELL = "results/demo/mini/brick/seen/k10/bgad/seed0"
OTHER_CELL = "results/demo/mini/brick/seen/k0/bgad-wo/seed0"


def commands() -> list[tuple[str, str]]:
    """Page and command of each line of a block marked sh, without the comment after it."""
    found = []
    for page in (page for page in PAGES if page.name not in IN_ORDER):
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
            lines = (re.sub(r"(^|\s+)# .*", "", line).strip() for line in block.splitlines())
            found += [(page.name, line) for line in lines if line]
    return found


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Project:
    """A copy of the project in which two cells of the demo are done, in small."""
    folder = tmp_path_factory.mktemp("docs") / "the project"
    folder.mkdir()
    project = Project(folder)
    recipe = folder / "config/recipes/demo.yaml"
    smaller = {"image_size: 128": "image_size: 64", "blocks: 4": "blocks: 2", "meta_epochs: 3": "meta_epochs: 2"}
    text = recipe.read_text()
    for old, new in smaller.items():
        assert old in text
        text = text.replace(old, new)
    recipe.write_text(text)
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    project.snakemake(f"{CELL}/metrics.json", f"{OTHER_CELL}/metrics.json")
    picture = next((folder / "resources/datasets/mini/brick/test/good").iterdir())
    (folder / "part.png").write_bytes(picture.read_bytes())
    return project


def as_tested(command: str) -> list[str]:
    """The command as it is, or where it would take hours, without end, or change this project: as a dry run of it."""
    words = shlex.split(command)
    if words[0] == "snakemake":
        return [*words, *([] if "-n" in words else ["-n"])]
    if words[0] == "make":
        return [*words, "-n", "-o", ".venv/.ready"]
    if words[:2] == ["bgad", "view"]:  # a server has no end of its own
        return [*words, *([] if "--json" in words else ["--json"])]
    return words


@pytest.mark.parametrize(("page", "command"), commands(), ids=lambda of: of[:70])
def test_a_command_of_the_documentation_runs(ran, page, command):
    words = as_tested(command)
    assert words[0] in ("snakemake", "make", "bgad"), f"{page}: say here how to test {command!r}"
    if words[0] == "snakemake":
        of_reader = "/data/mvtec" in command  # a folder that is not here
        said = ran.snakemake(*words[1:], check=not of_reader)
        assert not of_reader or ("/data/mvtec" in said and "error: " in said)
        return
    environment = {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    done = subprocess.run(words, cwd=ran.folder, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, f"{page}: {command}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_links_to_what_there_is(page):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    for link in links:
        assert link.startswith("https://") or (page.parent / link).exists(), f"{page.name} links to {link}"


def test_the_readme_is_one_screen():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 60
    assert max(len(line) for line in lines) <= 140


def test_the_paper_s_page_names_the_lines_that_the_code_has():
    text = paper_lines.PAGE.read_text(encoding="utf-8")
    assert len(paper_lines.PLACE.findall(text)) > 20
    assert paper_lines.with_lines(text, ROOT) == text


def test_a_line_follows_its_function(tmp_path):
    code = tmp_path / "code.py"
    code.write_text("import os\n\n\nclass A:\n    def go(self): ...\n\n\ndef go(): ...\n")
    page = "[`code.py:1`](../code.py#L1) `A.go`, [`code.py:1`](../code.py#L1) `go`"
    right = "[`code.py:5`](../code.py#L5) `A.go`, [`code.py:8`](../code.py#L8) `go`"
    assert paper_lines.with_lines(page, tmp_path) == right
    with pytest.raises(KeyError, match="gone"):
        paper_lines.with_lines("[`code.py:1`](../code.py#L1) `gone`", tmp_path)
