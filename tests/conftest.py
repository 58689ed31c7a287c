"""What several test files share: a copy of the project to run the workflow in, and no network for anybody."""

import atexit
import os
import shutil
import subprocess
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
# Also for what tests start: the guard of offline/ comes before a sitecustomize that the machine may have.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(OFFLINE), os.environ.get("PYTHONPATH"))))
os.environ["BGAD_NETWORK_NOTES"] = NOTES = tempfile.mkstemp(suffix=".network")[1]
atexit.register(os.unlink, NOTES)
sys.path.insert(0, str(OFFLINE))
import no_network  # noqa: E402

no_network.forbid()

# They run the workflow, for a minute or two each.
LONG = ("test_end_to_end.py", "test_own_data.py", "test_own_method.py", "test_workflow.py", "test_docs.py")


def pytest_collection_modifyitems(items):
    """The long files first: begun last, one of them would leave all cores but its own idle in the end."""
    items.sort(key=lambda item: item.path.name not in LONG)


def reached_out() -> str:
    """Where this process's tests, and what they started, wanted to connect since the last look."""
    text = Path(NOTES).read_text()
    Path(NOTES).write_text("")
    return text


@pytest.fixture(autouse=True)
def no_network_is_used() -> Iterator[None]:
    """Fails a test during which anything wanted to connect beyond this machine, also where a library hid the refusal."""
    yield
    assert reached_out() == ""


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Tensors of a test's size gain nothing from more threads, which wait for each other on a busy machine."""
    torch.set_num_threads(1)


class Project:
    """A copy of the workflow in a folder of its own, whose path has a space."""

    def __init__(self, folder: Path):
        self.folder = folder
        for name in ("Snakefile", "workflow", "config", "profiles"):
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, symlinks=True)
            else:
                shutil.copy(source, folder / name)

    def stand_in_for(self, *rules: str) -> None:
        """Has every step of these files of rules touch its files instead of doing its work."""
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
        """Runs Snakemake with two cores and returns all it says; with ``check``, it has to succeed."""
        options = ["--cores", "2", *arguments]
        if "-n" in options:  # most of the runs
            output = self.folder / ".said"
            status = forked.snakemake(self.folder, options, output)
            said = output.read_text()
        else:
            command = [sys.executable, "-m", "snakemake", *options]
            run = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
            status, said = run.returncode, run.stdout + run.stderr
        assert (status == 0) is check, said
        return said


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    folder = tmp_path_factory.mktemp("a copy") / "the project"
    folder.mkdir()
    return Project(folder)


def job_counts(said: str) -> dict[str, int]:
    """The jobs of each rule, from Snakemake's table of job statistics; {} when there is nothing to be done."""
    lines = said.splitlines()
    if "Job stats:" not in lines:
        assert "Nothing to be done" in said, said
        return {}
    start = lines.index("Job stats:") + 3
    rows = [line.split() for line in lines[start : lines.index("", start)]]
    return {rule: int(count) for rule, count in rows if rule != "total"}
