"""The documentation: its commands run, and its links, paths, anchors and line numbers are right."""

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

GUIDES = sorted((ROOT / "docs").glob("*.md"))
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")), *GUIDES]
EVERY_PAGE = [*PAGES, ROOT / "CHANGELOG.md", ROOT / "config/README.md", ROOT / "reports/README.md"]
OWN_TEST = {"own-data.md"}  # its commands follow one another; tests/test_own_data.py runs them
OF_READER = {"bgad/methods/mean_distance.py", "config/suites/own.yaml", "config/recipes/lite1.yaml"}  # of docs/own-method.md
CELL = "results/demo/mini/brick/seen/k10/bgad/seed0"
OTHER_CELL = "results/demo/mini/brick/seen/k0/bgad-wo/seed0"


def commands() -> list[str]:
    """Each command in the pages' sh blocks, once and without its comment."""
    blocks = [
        block
        for page in PAGES
        if page.name not in OWN_TEST
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    ]
    lines = (re.sub(r"(^|\s+)# .*", "", line).strip() for block in blocks for line in block.splitlines())
    return [*dict.fromkeys(line for line in lines if line)]


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Project:
    """A copy of the project with two finished cells of a smaller demo."""
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
    image = next((folder / "resources/datasets/mini/brick/test/good").iterdir())
    (folder / "part.png").write_bytes(image.read_bytes())
    return project


def as_tested(command: str) -> list[str]:
    """The command's words; as a dry run if it would take hours, never end, or change this project."""
    words = shlex.split(command)
    if words[0] == "snakemake":
        return [*words, *([] if "-n" in words else ["-n"])]
    if words[0] == "make":
        return [*words, "-n", "-o", ".venv/.ready"]
    if words[:2] == ["bgad", "view"]:
        return [*words, *([] if "--json" in words else ["--json"])]
    return words


@pytest.mark.parametrize("command", commands(), ids=lambda of: of[:70])
def test_a_command_of_the_documentation_runs(ran, command):
    words = as_tested(command)
    assert words[0] in ("snakemake", "make", "bgad"), "say in as_tested how to test it"
    if words[0] == "snakemake":
        missing = "/data/mvtec" in command  # the reader's own folder
        said = ran.snakemake(*words[1:], check=not missing)
        assert not missing or ("/data/mvtec" in said and "error: " in said)
        return
    environment = {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    done = subprocess.run(words, cwd=ran.folder, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", EVERY_PAGE, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_links_to_what_exists(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name} links to {link}"
        assert target.suffix != ".md" or not anchor or anchor in anchors(target), f"{page.name} links to {link}"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "reports/README.md"], ids=lambda page: page.name)
def test_a_page_names_files_that_exist(page):
    text = page.read_text(encoding="utf-8")
    for name in set(re.findall(r"`((?:bgad|benchmarks|config|container|docs|tests|workflow)/[\w./-]*)[`:]", text)) - OF_READER:
        assert (ROOT / name).exists(), f"{page.name} names {name}"


def test_docstrings_cite_sections_of_the_protocol_that_exist():
    sections = re.findall(r"^## (.+)$", (ROOT / "docs/protocol.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    for path in [*(ROOT / "bgad").rglob("*.py"), *(ROOT / "config").rglob("*.yaml")]:
        for cited in re.findall(r"docs/protocol\.md, ([A-Z]\w+)", path.read_text(encoding="utf-8")):
            assert any(section.startswith(cited) for section in sections), f"{path} cites {cited}"


def test_the_readme_is_one_screen():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 60
    assert max(len(line) for line in lines) <= 140


def test_docs_hold_pages_and_images_only():
    assert {path.suffix for path in (ROOT / "docs").iterdir()} <= {".md", ".png"}


def test_the_protocol_names_the_lines_of_the_code():
    text = paper_lines.PAGE.read_text(encoding="utf-8")
    assert len(paper_lines.PLACE.findall(text)) > 20
    assert paper_lines.with_lines(text, ROOT) == text, "run python workflow/scripts/paper_lines.py"


def test_a_line_follows_its_function(tmp_path):
    code = tmp_path / "code.py"
    code.write_text("import os\n\n\nclass A:\n    def go(self): ...\n\n\ndef go(): ...\n")
    page = "[`code.py:1`](../code.py#L1) `A.go`, [`code.py:1`](../code.py#L1) `go`"
    right = "[`code.py:5`](../code.py#L5) `A.go`, [`code.py:8`](../code.py#L8) `go`"
    assert paper_lines.with_lines(page, tmp_path) == right
    with pytest.raises(KeyError, match="gone"):
        paper_lines.with_lines("[`code.py:1`](../code.py#L1) `gone`", tmp_path)
