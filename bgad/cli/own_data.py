"""`bgad train`: a cell from one folder of images, planned from its content and made by Snakemake.

<folder>/train/good/*    test/good/*    test/<type>/*    ground_truth/<type>/<stem>_mask.png, if there are masks
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from bgad.config import cells, paths
from bgad.config.cells import Cell
from bgad.config.names import check_names
from bgad.config.settings import load_recipe
from bgad.data.layouts import image_files
from bgad.errors import ConfigError, DataError, FileError, TrainingError
from bgad.io import read_json
from bgad.progress import progress
from bgad.report.tables.format import NAMES, SHOWN

MOST_KNOWN = 10  # as in the paper
POLL = 0.3  # seconds


def plan(folder: Path, recipe: str, k: int | None, split: str, seed: int, name: str | None, root: Path) -> tuple[Cell, dict]:
    """The cell for the category ``folder``, and the settings of its data set, named ``name`` or after the folder above.

    By default k is 10, but at most half of the anomalies, and 0 without masks. DataError if the folder is not in MVTec AD's
    layout or has too few images; ConfigError if the recipe, name or split does not exist.
    """
    folder = folder.resolve()
    types = _types(folder)
    _check_recipe(recipe, root)
    drawn = types if split == "seen" else {kind: n for kind, n in types.items() if split == f"hard-{kind}"}
    available, has_masks = sum(drawn.values()), (folder / "ground_truth").is_dir()
    # A hard split's type leaves the test set completely, known or not; of the seen types, half stays for the test.
    most = min(MOST_KNOWN, available // 2 if split == "seen" else available)
    k = (most if has_masks else 0) if k is None else k
    if k and not has_masks:
        raise DataError(
            f"{folder}: has no ground_truth, so no anomalies can be known; add ground_truth/<type>/<stem>_mask.png, "
            "or use --k 0."
        )
    if split == "seen" and (k or available) and available <= max(k, 1):
        raise DataError(
            f"{folder}: k {k} needs at least {max(k, 1) + 1} anomalous images in test, and there are {available}; "
            "add some, or use a smaller --k."
        )
    cell = Cell(recipe, name or _name_of(folder.parent), folder.name, split, k, "bgad" if k else "bgad-wo", seed)
    cells.check(cell, lambda _: {folder.name: types})
    return cell, {"layout": "mvtec", "path": str(folder.parent), "pool": max(most, 1)}


def make(cell: Cell, dataset: dict, root: Path, quiet: bool = False) -> dict:
    """Runs Snakemake in the project at ``root`` to make ``cell`` and everything it needs; returns its metrics.json.

    Steps that are up to date are not repeated. FileError if another run has locked the project, TrainingError with the
    message of the step that failed.
    """
    command = [sys.executable, "-m", "snakemake", "--cores", "all", f"{cell.folder.as_posix()}/metrics.json"]
    command += ["--config", f"datasets={json.dumps({cell.dataset: dataset}, ensure_ascii=False)}"]
    with tempfile.NamedTemporaryFile("w", suffix=".log") as output, Path(output.name).open(encoding="utf-8") as said:
        process = subprocess.Popen(command, cwd=root, stdout=output, stderr=subprocess.STDOUT)
        try:
            _follow(process, said, root / cell.folder / "train.log", quiet)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait()
        if process.returncode:
            raise _failure(Path(output.name).read_text(encoding="utf-8"), root)
    return read_json(root / cell.folder / "metrics.json")


def summary(metrics: dict, place: Path) -> str:
    """The metrics of the cell in the folder ``place``, and what to do next, for people."""
    counts = metrics["counts"]
    lines = [
        f"Trained on {counts['train_normal']} normal images and {counts['train_anomalous']} known anomalies; "
        f"tested on {counts['test_normal']} normal and {counts['test_anomalous']} anomalous images.",
        *(f"{NAMES[metric] + ':':18}{_percent(metrics[metric]['last'])}" for metric in SHOWN),
        f"The cell:         {place}",
        f"Its test images:  {place / 'gallery'}",
        f"To score others:  bgad predict IMAGE... --cell {shlex.quote(str(place))} --out overlays",
    ]
    return "\n".join(lines)


def copy_of(cell: Path, out: Path) -> Path:
    """Copies the folder of a cell to the new folder ``out``, completely or not at all. FileError if it cannot be written."""
    building = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        shutil.copytree(cell, building)
        building.replace(out)
    except OSError as error:
        raise FileError(f"{out}: cannot be written ({error.strerror or error}); choose another place.") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return out


def _percent(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.2f} % (last epoch)"


def _types(folder: Path) -> dict[str, int]:
    """{defect type: number of images} of a category; DataError if it is not in MVTec AD's layout."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; check the path.")
    inside = sorted(path.name for path in folder.iterdir() if (path / "train/good").is_dir())
    if inside:
        raise DataError(f"{folder}: holds categories; name one of them, such as {folder / inside[0]}.")
    for part, what in (("train", "normal images to train on"), ("test", "normal images to test on")):
        if not image_files(folder, part, only="good"):
            raise DataError(f"{folder / part / 'good'}: no images found; put {what} there (MVTec AD's layout).")
    check_names([folder.name], "a category", folder.parent)
    counts = Counter(path.parent.name for path in image_files(folder, "test"))
    return {kind: number for kind, number in counts.items() if kind != "good"}


def _check_recipe(recipe: str, root: Path) -> None:
    file = root / paths.recipe_file(recipe)
    known = sorted(path.stem for path in file.parent.glob("*.yaml"))
    if recipe not in known:
        raise ConfigError(f"--recipe {recipe}: unknown; use one of {', '.join(known)}, or add {file}.")
    load_recipe(file)


def _name_of(folder: Path) -> str:
    """A folder's name with only what a data set's name may have: letters, digits, dots, dashes and underscores."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", folder.name).strip("-._") or "own"


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
                _show(step[1], quiet)
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


def _failure(said: str, root: Path) -> FileError | TrainingError:
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
