"""How time and memory of a cell grow with images, image size and k, and those of a plan with its cells, on this machine.

    python benchmarks/growth.py [--output docs]      about eight minutes, 4 GB of temporary files; Linux, for its /proc

Draws growth.png and writes growth.json, with every run. A cell is the recipe `cpu` through bgad.results.run_cell in one
thread, with two meta epochs instead of six and a tenth of the vectors in each; its features are noise of the right shapes
in a mapped cache on disk, which the machine still has in memory from its writing. A plan is `snakemake -n`. Each run is a
process of its own; all take turns, every other round backwards, so that a drift of the machine does not look like growth.
"""

import argparse
import datetime
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import yaml

from bgad import devices, splits
from bgad.backbones import STRIDES
from bgad.cells import Cell, expand
from bgad.datasets import ImageRecord, Index, catalogue
from bgad.features import load
from bgad.files import whole, write_json
from bgad.report.plot_style import COLOURS, DOTS_PER_INCH, finish, handle, panels, style
from bgad.results import run_cell
from bgad.settings import Config, Recipe, load_recipe, load_suite, read_yaml, validated

CHANNELS = (24, 40, 112)  # of the recipe's backbone, tf_efficientnet_lite0
TEST_NORMAL, TEST_ANOMALOUS = 20, 53  # bottle's 83 test images less the pool of ten


@dataclass(frozen=True)
class CellSize:
    """A cell's normal training images, the side of its images in pixels, and its known anomalies."""

    images: int = 200
    image_size: int = 256
    k: int = 10


COLUMNS = {
    "normal training images": [CellSize(images=count) for count in (200, 800, 3200)],
    "side of an image (pixels)": [CellSize(image_size=side) for side in (128, 256, 512)],
    "k (known anomalies)": [CellSize(k=k) for k in (1, 10, 40)],
}
# Suites (None: all that config.yaml names), and how many times their seeds
PLANS = {"cells planned": [(("demo",), 1), (("unseen",), 1), (None, 1), (None, 2)]}
LINES = {  # of each row: what it shows, its label, and its look
    "time (s)": {
        "seconds": ("whole process", {"color": COLOURS[0], "marker": "o"}),
        "train_s": ("of it training", {"color": COLOURS[1], "marker": "s", "ls": "--"}),
        "evaluate_s": ("of it evaluation", {"color": COLOURS[2], "marker": "^", "ls": ":"}),
    },
    "most memory (MB)": {
        "resident_mb": ("resident, with the pages of mapped files", {"color": COLOURS[3], "marker": "D"}),
        "anonymous_mb": ("the process's own (anonymous)", {"color": COLOURS[4], "marker": "v", "ls": "--"}),
        "cache_mb": ("feature caches on disk", {"color": "#777777", "ls": ":"}),
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("docs"))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--cell", nargs=4, metavar=("IMAGES", "SIZE", "K", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        print(json.dumps(cell_seconds(CellSize(*map(int, options.cell[:3])), Path(options.cell[3]))))
        return

    commands, facts, runs = {}, {}, {}
    with tempfile.TemporaryDirectory() as temporary:
        for number, size in enumerate({size: None for column in COLUMNS.values() for size in column}):
            folder = Path(temporary, f"cell{number}")
            facts[size] = {**asdict(size), "cache_mb": write_features(size, folder)}
            commands[size] = [sys.executable, __file__, "--cell", *asdict(size).values(), folder], Path.cwd()
        for number, plan in enumerate(PLANS["cells planned"]):
            folder = Path(temporary, f"plan{number}")
            facts[plan], tables = copy_workflow(*plan, folder)
            commands[plan] = [sys.executable, "-m", "snakemake", "-n", "-q", "all", "--cores", "1", *tables], folder
        measured(*commands[CellSize()])  # compiles the flows' code, where it was not yet
        for number in range(options.rounds):
            for size in list(commands)[:: -1 if number % 2 else 1]:
                runs.setdefault(size, []).append(measured(*commands[size]))
                print(size, {key: round(value, 1) for key, value in runs[size][-1].items()}, flush=True)

    results = {"date": datetime.date.today().isoformat(), "torch": torch.__version__, "cores": os.cpu_count()}
    results |= {**devices.describe(devices.choose("cpu", 1)), "recipe": "cpu, 2 meta epochs, a tenth of level_shares"}
    for name, column in {**COLUMNS, **PLANS}.items():
        results[name] = [{**facts[size], "runs": runs[size]} for size in column]
    write_json(options.output / "growth.json", results)
    draw(results, options.output / "growth.png")


def measured(command: list, folder: Path) -> dict[str, float]:
    """Runs a command: wall and processor seconds, its most resident and anonymous memory in MB, and the JSON that it prints.

    Resident memory counts the pages of mapped files, which the system drops when it needs room; anonymous memory is the
    process's own. The kernel keeps the peak of the one; the other is looked at every 10 ms. (ru_maxrss would not do: a new
    process starts with that of the one it came from.)
    """
    peaks, start = {"VmHWM": 0, "RssAnon": 0}, time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(list(map(str, command)), cwd=folder, stdout=said, stderr=subprocess.STDOUT)
        while not os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
                key, _, value = line.partition(":")
                if key in peaks:
                    peaks[key] = max(peaks[key], int(value.split()[0]))
            time.sleep(0.01)
        seconds = time.perf_counter() - start
        _, code, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(code)
        said.seek(0)
        *_, last = ["", *said.read().splitlines()]
    if process.returncode:
        raise SystemExit(f"error: {' '.join(map(str, command))} failed: {last}")
    run = {"seconds": seconds, "processor_s": usage.ru_utime + usage.ru_stime}
    run |= {"resident_mb": peaks["VmHWM"] / 2**10, "anonymous_mb": peaks["RssAnon"] / 2**10}
    return run | (json.loads(last) if last.startswith("{") else {})


def cell_seconds(size: CellSize, folder: Path) -> dict[str, float]:
    """One cell over the caches in ``folder``."""
    index, device, cache = index_of(size), devices.choose("cpu", 1), load(folder / "features")
    cell, split = Cell("cpu", index.dataset, index.category, "seen", size.k, "bgad", 0), splits.draw(index, "seen", 0)
    pools, silent = {"cutpaste": load(folder / "pool")}, lambda _: None
    metrics = run_cell(cell, recipe_of(size), index, split, cache, pools, folder, device, folder / "cell", say=silent)
    return {name: metrics["timing"][name] for name in ("train_s", "evaluate_s")}


def recipe_of(size: CellSize) -> Recipe:
    recipe = load_recipe(Path("config/recipes/cpu.yaml"))
    schedule = recipe.schedule.model_copy(update={"meta_epochs": 2})
    sampling = recipe.sampling.model_copy(update={"level_shares": tuple(share / 10 for share in recipe.sampling.level_shares)})
    return recipe.model_copy(update={"image_size": size.image_size, "schedule": schedule, "sampling": sampling})


def index_of(size: CellSize) -> Index:
    """Images that are nowhere: a cell over cached features opens none. The test set is the same whatever k is."""
    counts = {"test/dent": TEST_ANOMALOUS + max(size.k, 10), "test/good": TEST_NORMAL, "train/good": size.images}
    paths = [Path(kind, f"{number:04}.png") for kind, count in counts.items() for number in range(count)]
    of = [(str(path), *path.parts[:2], str(path) if "dent" in path.parts else None, str(path)) for path in paths]
    return Index("growth", "noise", False, True, tuple(ImageRecord(*fields) for fields in of))


def write_features(size: CellSize, folder: Path) -> float:
    """The caches of a cell, in MB: of its images, and of the pool of CutPaste images of its known anomalies.

    As bgad.features.load reads them; noise that comes again every eight images, and a square for each defect.
    """
    index, each, side = index_of(size), recipe_of(size).anomalies.pool, size.image_size
    pool = [path for path in splits.draw(index, "seen", 0).known(size.k) for _ in range(each)]
    for name, paths in (("features", [image.path for image in index.images]), ("pool", pool)):
        (folder / name).mkdir(parents=True)
        mapped = lambda part, kind, *shape: np.lib.format.open_memmap(folder / name / f"{part}.npy", "w+", kind, shape)  # noqa: B023, E731
        for level, (stride, channels) in enumerate(zip(STRIDES, CHANNELS, strict=True), start=1):
            noise = np.random.default_rng(0).standard_normal((8, (side // stride) ** 2, channels), dtype=np.float32)
            array = mapped(f"level{level}", np.float32, len(paths), *noise.shape[1:])
            for start in range(0, len(paths), 8):
                array[start : start + 8] = noise[: len(paths) - start]
        masks = mapped("masks", bool, len(paths), side, side)
        masks[["dent" in path for path in paths], side // 4 : side // 2, side // 4 : side // 2] = True
        record = {"image_size": side, "paths": paths, "seconds": 0.0, "weights_sha256": "0" * 64}
        write_json(folder / name / "features.json", record)
    return sum(path.stat().st_size for path in folder.rglob("level*.npy")) / 2**20


def copy_workflow(suites: tuple | None, times: int, folder: Path) -> tuple[dict, list[str]]:
    """The workflow where nothing is made yet, with ``times`` the seeds: what it plans, and the tables to ask for."""
    for name in ("workflow", "config"):
        shutil.copytree(name, folder / name)
    shutil.copy("Snakefile", folder)
    config, cells = validated(Config, read_yaml(folder / "config/config.yaml"), "config/config.yaml"), set()
    for path in (folder / f"config/suites/{suite}.yaml" for suite in suites or config.suites):
        values = read_yaml(path)
        for block in values["grid"]:
            block["seeds"] = [seed + 1000 * again for again in range(times) for seed in block["seeds"]]
        path.write_text(yaml.safe_dump(values))
        cells |= set(expand(load_suite(path), lambda dataset: catalogue(dataset, config.datasets[dataset])))
    names = list(suites or config.suites)
    return {"cells": len(cells), "suites": names, "seeds": times}, [f"reports/{name}/table.md" for name in names]


def draw(results: dict, path: Path) -> None:
    """A column for each thing that grows, time above memory: the quickest run of each point, and the largest."""
    of_column = dict(zip({**COLUMNS, **PLANS}, ("images", "image_size", "k", "cells"), strict=True))
    with style():
        figure, axes = panels(2, len(of_column), 2, [1.9, 1.9])
        for row, (unit, lines) in enumerate(LINES.items()):
            for axis, (name, key) in zip(axes[row], of_column.items(), strict=True):
                at = [point[key] for point in results[name]]
                for what, (_, look) in lines.items():
                    best = min if row == 0 else max
                    values = [best([run.get(what, point.get(what)) for run in point["runs"]]) for point in results[name]]
                    if None not in values:
                        axis.plot(at, values, ms=4, lw=1.3, **look)
                axis.set_ylim(bottom=0)
                axis.set_xticks(at, at)
                axis.set_xlabel(name if row else "")
            axes[row][0].set_ylabel(unit)
        handles = [handle(label, ms=4, lw=1.3, **look) for lines in LINES.values() for label, look in lines.values()]
        caption = f"{results['cpu']}, {results['threads']} thread, torch {results['torch']}, {results['date']}."
        finish(figure, "How time and memory grow", caption, handles, columns=2)
        with whole(path) as temporary:
            figure.savefig(temporary, dpi=DOTS_PER_INCH, metadata={"Software": None})


if __name__ == "__main__":
    main()
