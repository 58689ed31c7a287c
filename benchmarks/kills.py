"""A suite that is killed with -9 at random moments and started again with the plain command, beside one left in peace.

    python benchmarks/kills.py [--kills 50] [--seed 0] [--output FILE]      about twenty minutes on two cores

Half of the kills hit the whole tree of processes, the others Snakemake alone, whose jobs then go on without it. In the end both
suites must have the same table and figures to the last digit, and no cell that was finished may have been trained again: its
model.pt must be the very file that was seen first, and its log must tell of no other training. Anything else ends in an
AssertionError.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import torch
import yaml

from bgad import devices
from bgad.config.paths import CELL_FILES
from bgad.io import write_json

ROOT = Path(__file__).resolve().parents[1]
SAME = ("scores.csv", "model.pt", "likelihoods.json", "gallery/maps.png")  # to the last byte
RESUMED, PUT_BACK = "going on after epoch", "its files are in their places again"  # what the logs say


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/records/kills.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = compare(Path(folder), options.kills, seeds=max(2, options.kills // 6), rng=random.Random(options.seed))
    measured = {"machine": devices.describe(torch.device("cpu")), "date": time.strftime("%Y-%m-%d")}
    write_json(
        options.output, {**measured, "command": f"benchmarks/kills.py --kills {options.kills} --seed {options.seed}", **found}
    )
    print(json.dumps(found, indent=1))


def compare(folder: Path, kills: int, seeds: int, rng: random.Random, say: Callable[[str], object] = print) -> dict[str, Any]:
    """Runs the suite in two copies of the project in ``folder``, one of them killed ``kills`` times, and compares them."""
    calm, harried = (copy_of_project(folder / name, seeds) for name in ("left in peace", "killed"))
    start = time.monotonic()
    first_job = run(calm) or 0.0
    seconds = time.monotonic() - start
    cells = [path.relative_to(calm) for path in finished(calm)]
    seen: dict[Path, tuple[int, str]] = {}
    said: dict[str, set[Path]] = {RESUMED: set(), PUT_BACK: set()}
    hits = alone = 0
    try:
        for number in range(kills):
            # Each run gets several times its share of what is left, so that the last kills meet the last cells: with less, a
            # step that has no checkpoint, as features or a pool, would never come to its end.
            share = (seconds - first_job) * (1 - len(seen) / len(cells)) / (kills - number)
            longest = min(first_job + 5 * share, seconds)
            whole_tree = rng.random() < 0.5
            hit = run(harried, rng.uniform(0.2, longest), whole_tree) is not None
            hits, alone = hits + hit, alone + (hit and not whole_tree)
            seen |= {path: identity(path) for path in finished(harried) if path not in seen}
            for line, logs in said.items():
                logs |= {log for log in harried.glob("results/**/train.log") if line in log.read_text()}
            say(f"kill {number + 1} of {kills}: {len(seen)} cells finished")
        run(harried)
    finally:
        kill_all_of(harried)
    assert cells == [path.relative_to(harried) for path in finished(harried)]
    trained_again = [str(path) for path, first in seen.items() if is_another(path, *first)]
    assert not trained_again, f"trained again though finished: {trained_again}"
    differing = [str(path) for path in different(calm, harried, [cell.parent for cell in cells])]
    assert not differing, f"not the same as without kills: {differing}"
    left = [path for path in (harried / "results").rglob("*") if path.name in ("checkpoint.pt", ".finished")]
    assert not left, f"left behind: {left}"
    return {
        "cells": len(cells),
        "kills": kills,
        "kills that met a run at work": hits,
        "of those, of Snakemake alone": alone,
        "cells finished before the last kill": len(seen),
        "cells that went on from a checkpoint": len(said[RESUMED]),
        "cells put back without training": len(said[PUT_BACK]),
        "cells trained again though finished": len(trained_again),
        "seconds left in peace": round(seconds, 1),
    }


def copy_of_project(folder: Path, seeds: int) -> Path:
    """The workflow with a suite ``kills`` of small cells, in a new ``folder``."""
    for name in ("config", "workflow"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "Snakefile", folder)
    (folder / "profiles").symlink_to("workflow/profiles")
    config = folder / "config"
    recipe = yaml.safe_load((config / "recipes/demo.yaml").read_text())
    recipe["image_size"], recipe["flow"]["blocks"] = 64, 2
    recipe["schedule"] |= {"meta_epochs": 12, "evaluate_every": 3}
    (config / "recipes/kills.yaml").write_text(yaml.safe_dump(recipe))
    of_all = {"recipe": "kills", "dataset": "mini", "categories": ["gravel"], "splits": ["seen"], "seeds": [*range(seeds)]}
    grid = [{**of_all, "k": [0], "methods": ["bgad-wo", "padim"]}, {**of_all, "k": [1], "methods": ["bgad"]}]
    suite = {"title": "Small cells", "question": "Is anything lost?", "grid": grid}
    (config / "suites/kills.yaml").write_text(yaml.safe_dump(suite))
    settings = yaml.safe_load((config / "config.yaml").read_text())
    (config / "config.yaml").write_text(yaml.safe_dump(settings | {"suites": ["kills"], "checkpoint_every": 0}))
    return folder


def run(project: Path, kill_after: float | None = None, whole_tree: bool = True) -> float | None:
    """The plain command: to its end, or until it or its whole tree is killed after so many seconds.

    Returns the seconds to the first job, of a run to its end; of a killed one, when that was, or None if it was done before.
    """
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "reports/kills/table.md"]
    log, start, first_job = project / "said.log", time.monotonic(), None
    with log.open("w") as said, subprocess.Popen(command, cwd=project, stdout=said, stderr=subprocess.STDOUT) as process:
        while process.poll() is None:
            time.sleep(0.05)
            now = time.monotonic() - start
            if kill_after is None and first_job is None and "Job " in log.read_text():
                first_job = now
            if kill_after is not None and now >= kill_after:
                process.kill()
                if whole_tree:
                    kill_all_of(project)
                return kill_after
    assert process.returncode == 0, log.read_text()
    return first_job


def kill_all_of(project: Path) -> None:
    """Kills every process that works in the folder of ``project``."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and Path(process.cwd()).is_relative_to(project):
                process.kill()


def finished(project: Path) -> list[Path]:
    """model.pt of each cell that is whole."""
    folders = [path.parent for path in project.glob("results/*/*/*/*/*/*/*/metrics.json")]
    return sorted(of / "model.pt" for of in folders if all((of / name).exists() for name in CELL_FILES))


def identity(path: Path) -> tuple[int, str]:
    """A cell's model.pt and what its log says."""
    return path.stat().st_ino, path.with_name("train.log").read_text()


def is_another(path: Path, file: int, log: str) -> bool:
    """Whether the cell has been trained since. (Snakemake sets a file's time anew; a new file may get an old one's number.)"""
    now, said = identity(path)
    return now != file or not (said.startswith(log) or PUT_BACK in said)


def different(calm: Path, harried: Path, cells: list[Path]) -> list[Path]:
    """The files of the table and the cells that are not the same, but for a record's timings."""
    files = [Path("reports/kills") / name for name in ("table.md", "table.csv")]
    files += [cell / name for cell in cells for name in SAME]
    found = [path for path in files if (calm / path).read_bytes() != (harried / path).read_bytes()]
    for path in (cell / "metrics.json" for cell in cells):
        records = [json.loads((project / path).read_text()) for project in (calm, harried)]
        for record in records:
            del record["timing"]
        found += [path] if records[0] != records[1] else []
    return found


if __name__ == "__main__":
    main()
