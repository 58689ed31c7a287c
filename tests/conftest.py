"""What several test files share: a copy of the project to run the workflow in, and a guard against using the network."""

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import forked
import pytest
import torch

STAND_IN = "for path in {output}; do case $path in *.*) touch $path;; *) mkdir -p $path;; esac; done"
ROOT = Path(__file__).resolve().parent.parent
OFFLINE = ROOT / "tests" / "offline"

os.environ["HF_HUB_OFFLINE"] = "1"
# Processes that tests start have the guard too: offline/ comes before a sitecustomize of the machine.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(OFFLINE), os.environ.get("PYTHONPATH"))))
os.environ["BGAD_NETWORK_NOTES"] = NOTES = tempfile.mkstemp(suffix=".network")[1]
atexit.register(os.unlink, NOTES)
sys.path.insert(0, str(OFFLINE))
import no_network  # noqa: E402

no_network.forbid()

# They run the workflow, for up to a minute each.
LONG = ("test_end_to_end.py", "test_own_data.py", "test_own_method.py", "test_workflow.py", "test_docs.py")


def pytest_collection_modifyitems(items):
    """The long files first: if one of them started last, all other cores would wait for it."""
    items.sort(key=lambda item: item.path.name not in LONG)


def reached_out() -> str:
    """The connections that this process's tests, and processes they started, tried to make since the last call."""
    text = Path(NOTES).read_text()
    Path(NOTES).write_text("")
    return text


@pytest.fixture(autouse=True)
def no_network_is_used() -> Iterator[None]:
    """Fails a test during which anything tried to connect to another machine, even if a library hid the refusal."""
    yield
    assert reached_out() == ""


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Tensors as small as those of tests gain nothing from more threads."""
    torch.set_num_threads(1)


class Project:
    """A copy of the workflow in its own folder, whose path has a space."""

    def __init__(self, folder: Path):
        self.folder = folder
        for name in ("Snakefile", "workflow", "config", "profiles"):
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, symlinks=True)
            else:
                shutil.copy(source, folder / name)

    def stand_in_for(self, *rules: str) -> None:
        """Makes every step in these rule files touch its output instead of doing its work."""
        for path in (self.folder / "workflow" / "rules" / f"{name}.smk" for name in rules):
            text = path.read_text()
            start = text.find("    shell:")
            while start >= 0:
                end = text.find("\n\n", start)
                end = len(text) if end < 0 else end
                text = text[:start] + f"    shell:\n        '{STAND_IN}'\n" + text[end:]
                start = text.find("    shell:", start + 12)
            path.write_text(text)

    def snakemake(self, *arguments: str, check: bool = True) -> str:
        """Runs Snakemake with two cores and returns its output. With ``check`` it must succeed, without it must fail."""
        output = self.folder / ".said"
        # With the profile's timespan, short runs would take up to 5 seconds to exit.
        status = forked.snakemake(self.folder, ["--cores", "2", "--max-jobs-per-timespan", "100/1s", *arguments], output)
        said = output.read_text()
        assert (status == 0) is check, said
        return said


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    folder = tmp_path_factory.mktemp("a copy") / "the project"
    folder.mkdir()
    return Project(folder)


def job_counts(said: str) -> dict[str, int]:
    """The number of jobs per rule, from Snakemake's job statistics; {} if there is nothing to be done."""
    lines = said.splitlines()
    if "Job stats:" not in lines:
        assert "Nothing to be done" in said, said
        return {}
    start = lines.index("Job stats:") + 3
    rows = [line.split() for line in lines[start : lines.index("", start)]]
    return {rule: int(count) for rule, count in rows if rule != "total"}
