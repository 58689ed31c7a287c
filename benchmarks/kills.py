"""A suite killed with signal 9 at random moments and started again each time, against the same suite left in peace.

    python benchmarks/kills.py [--kills 50] [--seed 0] [--output FILE]      about twenty minutes on two cores

Half of the kills hit all processes, the others only Snakemake, whose jobs live on. After a kill, `snakemake --unlock` and then
the same command. In the end both suites must have the same tables and metrics to the last digit, and no finished cell may have
been trained again. Anything else ends in an AssertionError.
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
EPOCHS = 12
RESUMED = "resuming after epoch "  # in logs
EVALUATED = f"{RESUMED}{EPOCHS} "  # of a cell whose training had ended


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/records/kills.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = compare(Path(folder), options.kills, seeds=max(2, options.kills // 6), rng=random.Random(options.seed))
    measured = {"machine": devices.describe(torch.device("cpu")), "date": time.strftime("%Y-%m-%d")}
    measured["command"] = f"benchmarks/kills.py --kills {options.kills} --seed {options.seed}"
    write_json(options.output, {**measured, **found})
    print(json.dumps(found, indent=1))


def compare(folder: Path, kills: int, seeds: int, rng: random.Random, say: Callable[[str], object] = print) -> dict[str, Any]:
    """Runs the suite in two copies of the project in ``folder``, one of them killed ``kills`` times, and compares them."""
    calm, harried = (copy_of_project(folder / name, seeds) for name in ("left in peace", "killed"))
    start = time.monotonic()
    first_job = run(calm) or 0.0
    seconds = time.monotonic() - start
    cells = [cell.relative_to(calm) for cell in finished(calm)]
    seen: dict[Path, str] = {}  # the log of each cell that was finished at a kill
    resumed: set[Path] = set()
    evaluated: set[Path] = set()
    hits = alone = 0
    try:
        for number in range(kills):
            # Several times the share of the time left, so that the last kills hit the last cells. With less, a step without a
            # checkpoint, such as features or a pool, would never finish.
            share = (seconds - first_job) * (1 - len(seen) / len(cells)) / (kills - number)
            longest = min(first_job + 5 * share, seconds)
            whole_tree = rng.random() < 0.5
            hit = run(harried, rng.uniform(0.2, longest), whole_tree) is not None
            if hit:
                unlock(harried)
            hits, alone = hits + hit, alone + (hit and not whole_tree)
            seen |= {cell: log_of(cell) for cell in finished(harried) if cell not in seen}
            logs = {log.parent: log.read_text() for log in harried.glob("results/**/train.log")}
            evaluated |= {cell for cell, log in logs.items() if EVALUATED in log}
            resumed |= {cell for cell, log in logs.items() if RESUMED in log.replace(EVALUATED, "")}
            say(f"kill {number + 1} of {kills}: {len(seen)} cells finished")
        run(harried)
    finally:
        kill_all_of(harried)
    assert cells == [cell.relative_to(harried) for cell in finished(harried)]
    trained_again = [str(cell) for cell, log in seen.items() if is_trained_again(cell, log)]
    assert not trained_again, f"trained again though finished: {trained_again}"
    differing = [str(path) for path in different(calm, harried, cells)]
    assert not differing, f"not the same as without kills: {differing}"
    left = [*(harried / "results").rglob("checkpoint.pt")]
    assert not left, f"left behind: {left}"
    return {
        "cells": len(cells),
        "kills": kills,
        "kills that hit a running suite": hits,
        "of those, only Snakemake": alone,
        "cells finished before the last kill": len(seen),
        "cells resumed from a checkpoint": len(resumed),
        "trained cells that were only evaluated again": len(evaluated),
        "finished cells trained again": len(trained_again),
        "seconds without kills": round(seconds, 1),
    }


def copy_of_project(folder: Path, seeds: int) -> Path:
    """The workflow in a new ``folder``, with a suite ``kills`` of small cells."""
    for name in ("config", "workflow"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "Snakefile", folder)
    (folder / "profiles").symlink_to("workflow/profiles")
    config = folder / "config"
    recipe = yaml.safe_load((config / "recipes/demo.yaml").read_text())
    recipe["image_size"], recipe["flow"]["blocks"], recipe["sampling"]["level_steps"] = 64, 2, [40, 20, 10]
    recipe["schedule"] |= {"meta_epochs": EPOCHS, "evaluate_every": 3}
    (config / "recipes/kills.yaml").write_text(yaml.safe_dump(recipe))
    of_all = {"recipe": "kills", "dataset": "mini", "categories": ["gravel"], "splits": ["seen"], "seeds": [*range(seeds)]}
    grid = [{**of_all, "k": [0], "methods": ["bgad-wo", "padim"]}, {**of_all, "k": [1], "methods": ["bgad"]}]
    suite = {"title": "Small cells", "question": "Does a kill lose anything?", "grid": grid}
    (config / "suites/kills.yaml").write_text(yaml.safe_dump(suite))
    settings = yaml.safe_load((config / "config.yaml").read_text())
    (config / "config.yaml").write_text(yaml.safe_dump(settings | {"suites": ["kills"], "checkpoint_every": 0}))
    return folder


def run(project: Path, kill_after: float | None = None, whole_tree: bool = True) -> float | None:
    """Runs the suite to its end, or until Snakemake or its ``whole_tree`` of processes is killed after so many seconds.

    Returns the seconds to the first job; of a run to be killed, ``kill_after``, or None if it ended before.
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


def unlock(project: Path) -> None:
    """Removes the locks of a killed Snakemake, as its message says."""
    subprocess.run([sys.executable, "-m", "snakemake", "--unlock"], cwd=project, check=True, capture_output=True)


def kill_all_of(project: Path) -> None:
    """Kills every process whose working directory is in ``project``."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and Path(process.cwd()).is_relative_to(project):
                process.kill()


def finished(project: Path) -> list[Path]:
    """The folders of complete cells."""
    folders = [path.parent for path in project.glob("results/*/*/*/*/*/*/*/metrics.json")]
    return sorted(folder for folder in folders if all((folder / name).exists() for name in CELL_FILES))


def log_of(cell: Path) -> str:
    return (cell / "train.log").read_text()


def is_trained_again(cell: Path, log: str) -> bool:
    """Whether a finished cell with that ``log`` has been trained since. PaDiM has no epochs, and no checkpoint."""
    now = log_of(cell)
    return "padim" not in cell.parts and not (now.startswith(log) or EVALUATED in now)


def different(calm: Path, harried: Path, cells: list[Path]) -> list[Path]:
    """The files of the tables and cells that differ, apart from the timings in metrics.json."""
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
