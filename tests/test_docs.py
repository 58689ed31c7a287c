"""The documentation: its commands exist, and its links, paths, anchors and line numbers are right."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from conftest import ROOT, Project

import bgad.cli  # noqa: F401  registers the commands
from bgad.cli.app import app

sys.path.insert(0, str(ROOT / "workflow" / "scripts"))
import paper_lines

GUIDES = sorted((ROOT / "docs").glob("*.md"))
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")), *GUIDES]
EVERY_PAGE = [*PAGES, ROOT / "CHANGELOG.md", ROOT / "config/README.md", ROOT / "reports/README.md"]
OWN_TEST = {"own-data.md"}  # tests/test_own_data.py runs its commands in order
OF_READER = {"bgad/methods/mean_distance.py", "config/suites/own.yaml", "config/recipes/lite1.yaml"}  # of docs/own-method.md


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
def copied(project) -> Project:
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        (project.folder / name).write_bytes((ROOT / name).read_bytes())
    return project


@pytest.mark.parametrize("command", commands(), ids=lambda of: of[:70])
def test_a_command_of_the_documentation_exists(copied, command, capsys):
    """Dry runs of Snakemake and make, and bgad's own parser: what the commands do has tests of its own."""
    program, *words = shlex.split(command)
    if program == "snakemake":
        missing = "/data/mvtec" in command  # the reader's own folder
        said = copied.snakemake(*words, *([] if "-n" in words else ["-n"]), check=not missing)
        assert not missing or ("/data/mvtec" in said and "error: " in said)
    elif program == "make":
        subprocess.run(["make", *words, "-n", "-o", ".venv/.ready"], cwd=copied.folder, check=True, capture_output=True)
    else:
        assert program == "bgad", "say here how to test it"
        # Help is shown only after every word has been parsed: an unknown command or option raises.
        typer.main.get_command(app).main([*words, "--help"], prog_name="bgad", standalone_mode=False)
        assert f"Usage: bgad {words[0]}" in capsys.readouterr().out


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
            assert any(cited in section for section in sections), f"{path} cites {cited}"


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
