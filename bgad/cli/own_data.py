"""A cell of one's own pictures from their folder alone: what it holds, the cell to make of it, and Snakemake run to make it.

<folder>/train/good/*    test/good/*    test/<type>/*    ground_truth/<type>/<stem>_mask.png, where there are masks
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
from pathlib import Path

from bgad.config import cells, paths
from bgad.config.cells import Cell
from bgad.config.names import check_names
from bgad.config.settings import load_recipe
from bgad.data.layouts import image_files
from bgad.errors import BgadError
from bgad.io import read_json
from bgad.progress import progress
from bgad.report.collect import SHOWN
from bgad.report.tables.format import NAMES

MOST_KNOWN = 10  # as in the paper
POLL = 0.3  # seconds


def plan(folder: Path, recipe: str, k: int | None, split: str, seed: int, name: str | None, root: Path) -> tuple[Cell, dict]:
    """The cell of the category ``folder``, and the settings of its data set, which is named ``name`` or as the folder above.

    Without a ``k``, ten anomalies are known, but at most half of those that there are; none where there are no masks.
    BgadError if the folder is not in MVTec AD's layout or cannot have that cell.
    """
    folder = folder.resolve()
    types = _types(folder)
    _check_recipe(recipe, root)
    drawn = types if split == "seen" else {kind: n for kind, n in types.items() if split == f"hard-{kind}"}
    available, has_masks = sum(drawn.values()), (folder / "ground_truth").is_dir()
    # All of a hard split's type leaves the test set, known or not; of the seen types, half stays to be tested on.
    most = min(MOST_KNOWN, available // 2 if split == "seen" else available)
    k = (most if has_masks else 0) if k is None else k
    if k and not has_masks:
        raise BgadError(
            f"{folder}: there is no ground_truth, so its anomalies cannot be known; "
            "add ground_truth/<type>/<stem>_mask.png, or take --k 0."
        )
    if split == "seen" and (k or available) and available <= max(k, 1):
        raise BgadError(
            f"{folder}: k {k} needs at least {max(k, 1) + 1} anomalous pictures in test, and it has {available}; "
            "add some, or take a smaller --k."
        )
    cell = Cell(recipe, name or _name_of(folder.parent), folder.name, split, k, "bgad" if k else "bgad-wo", seed)
    cells.check(cell, lambda _: {folder.name: types})
    return cell, {"layout": "mvtec", "path": str(folder.parent), "pool": max(most, 1)}


def make(cell: Cell, dataset: dict, root: Path, quiet: bool = False) -> dict:
    """Has Snakemake make ``cell`` in the project at ``root``, with all that it needs, and returns its metrics.json.

    What is there and fits is not made again. BgadError with the first sentence of the step that failed.
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
            raise BgadError(_reason(Path(output.name).read_text(encoding="utf-8"), root))
    return read_json(root / cell.folder / "metrics.json")


def summary(metrics: dict, place: Path) -> str:
    """What a cell in the folder ``place`` reached and how to go on, for people."""
    counts = metrics["counts"]
    lines = [
        f"Trained on {counts['train_normal']} normal pictures and {counts['train_anomalous']} known anomalies; "
        f"tested on {counts['test_normal']} normal and {counts['test_anomalous']} anomalous pictures.",
        *(f"{NAMES[metric] + ':':18}{_percent(metrics[metric]['last'])}" for metric in SHOWN),
        f"The cell:         {place}",
        f"To look at it:    {place / 'gallery'}",
        f"To score others:  bgad predict PICTURE... --cell {shlex.quote(str(place))} --out overlays",
    ]
    return "\n".join(lines)


def copy_of(cell: Path, out: Path) -> Path:
    """Copies the folder of a cell to the new folder ``out``, whole or not at all."""
    building = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        shutil.copytree(cell, building)
        building.replace(out)
    except OSError as error:
        raise BgadError(f"{out}: cannot be written ({error.strerror or error}); choose another place.") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return out


def _percent(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.2f} % (last epoch)"


def _types(folder: Path) -> dict[str, int]:
    """The defect types of a category with their numbers of pictures; BgadError if it is not in MVTec AD's layout."""
    if not folder.is_dir():
        raise BgadError(f"{folder}: there is no such folder; check the path.")
    inside = sorted(path.name for path in folder.iterdir() if (path / "train/good").is_dir())
    if inside:
        raise BgadError(f"{folder}: a folder of categories; give one of them, as in {folder / inside[0]}.")
    for part, what in (("train", "normal pictures to train on"), ("test", "normal pictures that are not trained on")):
        if not image_files(folder, part, only="good"):
            raise BgadError(f"{folder / part / 'good'}: no pictures found; put {what} there (MVTec AD's layout).")
    check_names([folder.name], "a category", folder.parent)
    counts = Counter(path.parent.name for path in image_files(folder, "test"))
    return {kind: number for kind, number in counts.items() if kind != "good"}


def _check_recipe(recipe: str, root: Path) -> None:
    folder = (root / paths.recipe_file(recipe)).parent
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if recipe not in known:
        raise BgadError(
            f"--recipe {recipe}: there is no such recipe; use one of {', '.join(known)}, or put a file into {folder} "
            "and give its name without the ending."
        )
    load_recipe(root / paths.recipe_file(recipe))


def _name_of(folder: Path) -> str:
    """A data set's name from its folder's: letters, digits, dots, dashes and underscores, as the configuration has them."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", folder.name).strip("-._") or "own"


def _follow(process: subprocess.Popen, said, log: Path, quiet: bool) -> None:
    """Shows what Snakemake says, line by line, and how far the training itself is, until the process ends."""
    lines = _lines(process, said)
    total = next((int(line.split()[1]) for line in lines if re.match(r"total +\d+$", line)), 0)
    with progress("preparing", total, quiet, alike=False) as advance:
        for line in lines:
            if step := re.match(r"Job \d+: (.+)", line):
                advance(0, step[1])
            elif re.match(r"\d+ of \d+ steps", line):
                advance(1)
            elif not line and (left := _last_line(log)).endswith(" left"):
                advance(0, left)


def _lines(process: subprocess.Popen, said):
    """Each line once it is whole, and "" whenever there is no new one, until the process has ended."""
    rest = ""
    while True:
        ended = process.poll() is not None
        *whole, rest = (rest + said.read()).split("\n")
        yield from (line.strip() for line in whole)
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


def _reason(said: str, root: Path) -> str:
    """What stopped Snakemake, in a sentence."""
    if "LockException" in said:
        return f"{root}: another run that makes the same is under way there; wait for its end."
    found = re.search(r"^\s*error: (.+)$", said, flags=re.MULTILINE)
    if found:
        return found[1]
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    logs = [line.partition(": ")[2] for line in lines if line.startswith("Complete log(s)")]
    others = [line for line in lines if not line.startswith("Complete log(s)")] or ["nothing was said"]
    raised = re.findall(r"^\s*(\w+Error: .+)$", said, flags=re.MULTILINE)  # which Snakemake's own last words come after
    return f"the training failed: {(logs or [str(root / '.snakemake/log')])[0]} says why ({(raised or others)[-1]})."
