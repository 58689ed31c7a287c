"""Runs Snakemake for `bgad train`: shows its steps, ends all of it when the command is told to end, and says why it failed."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from bgad.config import paths
from bgad.config.cells import Cell
from bgad.config.names import decoded
from bgad.errors import BgadError, FileError, TrainingError
from bgad.io import read_json
from bgad.progress import progress

POLL = 0.3  # seconds
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# How Snakemake is told to end, and how many seconds it has each time. On SIGINT it waits for its steps and removes its lock.
ENDINGS = ((signal.SIGINT, 20), (signal.SIGTERM, 5), (signal.SIGKILL, 5))


class Stopped(BaseException):
    """The command was told to end, by the signal ``number``. Not an Exception, so that nothing on the way takes it for one."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


def make(cell: Cell, dataset: dict, root: Path, quiet: bool = False) -> dict:
    """Runs Snakemake in the project at ``root`` to make ``cell`` and everything it needs; returns its metrics.json.

    Steps that are up to date are not repeated; a cell with a missing or damaged file is made again. FileError if another run
    has locked the project, TrainingError with the message of the step that failed. Stopped, with no process left, on a signal
    of SIGNALS.
    """
    folder = root / cell.folder
    for file in damaged_files(cell, folder):
        if not quiet:
            print(f"{file}: damaged; making the cell again", file=sys.stderr)
        file.unlink()
    targets = [(cell.folder / name).as_posix() for name in paths.CELL_FILES]
    # A user's own profile (none: ignore it) may silence the message that a failure ends with.
    command = [sys.executable, "-m", "snakemake", "--cores", "all", "--profile", "none", "--show-failed-logs", *targets]
    command += ["--config", f"datasets={json.dumps({cell.dataset: dataset}, ensure_ascii=False)}"]
    with tempfile.NamedTemporaryFile("w", suffix=".log") as output:
        with Path(output.name).open(encoding="utf-8", errors="replace") as said, _process(command, root, output) as process:
            _follow(process, said, root / cell.training.folder / "train.log", quiet)
        if process.returncode:
            raise failure(Path(output.name).read_text(encoding="utf-8", errors="replace"), root)
    return read_json(folder / "metrics.json")


def damaged_files(cell: Cell, folder: Path) -> list[Path]:
    """The files of a finished cell that cannot be read; none of an unfinished one, which Snakemake makes anyway."""
    if not (folder / "metrics.json").is_file():
        return []
    # Seconds to import, which only a finished cell costs.
    import torch
    from PIL import Image

    from bgad.evaluation.curves import Curves
    from bgad.methods.predict import read_model
    from bgad.report import collect

    def check_metrics(path: Path) -> None:
        if (status := collect.read_cell(cell, folder)[1]) != collect.DONE:
            raise FileError(f"{path}: {status}")

    def check_history(path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        if not text.endswith("\n") or len({line.count(",") for line in text.splitlines()}) != 1:
            raise ValueError("cut off")

    def check_image(path: Path) -> None:
        with Image.open(path) as image:
            image.load()

    checks = {
        "metrics.json": check_metrics,
        "history.csv": check_history,
        "scores.csv": lambda path: collect.scores_of(path.parent),
        "curves.npz": Curves.load,
        "model.pt": lambda path: read_model(path.parent, torch.device("cpu")),
        "likelihoods.json": collect.read_likelihoods,
        "gallery/gallery.json": collect.read_gallery,
    }
    found = []
    for path in [folder / name for name in paths.CELL_FILES if (folder / name).exists()]:
        try:
            checks.get(path.relative_to(folder).as_posix(), check_image)(path)
        except (BgadError, OSError, SyntaxError, ValueError):  # the last three are Pillow's
            found.append(path)
    return found


@contextmanager
def _process(command: list[str], root: Path, output) -> Iterator[subprocess.Popen]:
    """The command as a process group of its own, which ends with this context; Stopped on a signal to this process.

    A terminal's Ctrl-C goes to this process only, too, and so every signal takes the same way.
    """
    process = None

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    ignored = {number for number in SIGNALS if signal.getsignal(number) == signal.SIG_IGN} - {signal.SIGINT}  # as by nohup
    before = {number: signal.signal(number, stop) for number in SIGNALS if number not in ignored}
    try:
        process = subprocess.Popen(
            command, cwd=root, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, env=_environment(root)
        )
        yield process
    finally:
        for number in before:
            signal.signal(number, signal.SIG_IGN)  # while it ends
        if process and process.poll() is None:
            _end(process)
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(process: subprocess.Popen) -> None:
    for number, seconds in ENDINGS:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            break
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # steps that outlived Snakemake


def _environment(root: Path) -> dict[str, str]:
    """This process's, with a cache in the project where the user's cannot be written: Snakemake does not start without one."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    try:
        home.mkdir(parents=True, exist_ok=True)
        if os.access(home, os.W_OK):
            return dict(os.environ)
    except OSError:
        pass
    return {**os.environ, "XDG_CACHE_HOME": str(root / ".snakemake/cache"), "MPLCONFIGDIR": str(root / ".snakemake/cache")}


def _follow(process: subprocess.Popen, said, log: Path, quiet: bool) -> None:
    """Shows each step that Snakemake starts, and the time that the training has left, until the process ends."""
    lines = _lines(process, said)
    total = next((int(line.split()[1]) for line in lines if re.match(r"total +\d+$", line)), 0)
    with progress("steps", total, quiet) as advance:
        shown = _last_line(log)
        for line in lines:
            if re.match(r"\d+ of \d+ steps", line):
                advance(1)
            elif step := re.match(r"Job \d+: (.+)", line):
                _show(decoded(step[1]), quiet)
            elif not line and (left := _last_line(log)) != shown and left.endswith(" left"):
                _show(shown := left, quiet)


def _show(line: str, quiet: bool) -> None:
    if not quiet:
        print(line, file=sys.stderr)


def _lines(process: subprocess.Popen, said) -> Iterator[str]:
    """Each complete line, and "" whenever there is no new one, until the process has ended."""
    rest = ""
    while True:
        ended = process.poll() is not None
        *complete, rest = (rest + said.read()).split("\n")
        yield from (line.strip() for line in complete)
        if ended:
            return
        yield ""
        try:
            process.wait(POLL)
        except subprocess.TimeoutExpired:
            continue


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    return lines[-1] if lines else ""


def failure(said: str, root: Path) -> FileError | TrainingError:
    """Why Snakemake stopped, in one sentence, from its output."""
    if "LockException" in said:
        return FileError(f"{root}: locked by another run, or by one that was killed; wait for it, or run `snakemake --unlock`.")
    found = re.search(r"^\s*error: (.+)$", said, flags=re.MULTILINE)
    if found:
        return TrainingError(found[1])
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    logs = [line.partition(": ")[2] for line in lines if line.startswith("Complete log(s)")]
    others = [line for line in lines if not line.startswith("Complete log(s)")] or ["no output"]
    raised = re.findall(r"^\s*(\w+Error: .+)$", said, flags=re.MULTILINE)  # Snakemake's own last lines come after it
    log = (logs or [str(root / ".snakemake/log")])[0]
    return TrainingError(f"the training failed ({(raised or others)[-1]}); {log} has the details.")
