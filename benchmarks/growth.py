"""How a cell's time and memory grow with images, image size and k, and a plan's with its cells, on this machine.

    python benchmarks/growth.py [--output benchmarks/records]      eight minutes, 4 GB of temporary files; Linux, for /proc

Writes growth.json (every run) and growth.png. A cell is the recipe `cpu` in one thread, with two meta epochs and a tenth of the
vectors. Its features are noise, memory-mapped from a cache that the machine still holds in memory. A plan is `snakemake -n`.
Each run is a separate process. Runs take turns, the second time in reverse: a drift of the machine must not look like growth.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml

from bgad import devices
from bgad.config.cells import Cell, expand
from bgad.config.settings import Config, Recipe, VectorDraws, load_recipe, load_suite, read_yaml, validated
from bgad.data import splits
from bgad.data.layouts import ImageRecord, Index, catalogue
from bgad.features import STRIDES
from bgad.features.cache import load, sha256_of
from bgad.io import whole, write_json
from bgad.methods.runner import run_cell

CHANNELS = (24, 40, 112)  # of the recipe's backbone, tf_efficientnet_lite0


class CellSize(NamedTuple):
    """A cell's normal training images, the side of its images in pixels, and its known anomalies."""

    images: int = 200
    image_size: int = 256
    k: int = 10


COLUMNS = {
    "normal training images": [CellSize(images=count) for count in (200, 800, 3200)],
    "side of an image (pixels)": [CellSize(image_size=side) for side in (128, 256, 512)],
    "k (known anomalies)": [CellSize(k=k) for k in (1, 10, 40)],
}
Plan = tuple[tuple[str, ...] | None, int]  # suites (None: all), times seeds
PLANS: dict[str, list[Plan]] = {"cells planned": [(("demo",), 1), (("unseen",), 1), (None, 1), (None, 2)]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/records"))
    parser.add_argument("--cell", nargs=4, metavar=("IMAGES", "SIZE", "K", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        return print(json.dumps(cell_seconds(CellSize(*map(int, options.cell[:3])), Path(options.cell[3]))))

    commands: dict[CellSize | Plan, tuple[list, Path]] = {}
    facts: dict[CellSize | Plan, dict] = {}
    runs: dict[CellSize | Plan, list[dict]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for number, size in enumerate({size: None for column in COLUMNS.values() for size in column}):
            folder = Path(temporary, str(number))
            facts[size] = size._asdict() | {"cache_mb": write_features(size, folder)}
            commands[size] = [sys.executable, __file__, "--cell", *size, folder], Path.cwd()
        for plan in PLANS["cells planned"]:
            folder = Path(temporary, f"plan{len(facts)}")
            facts[plan], tables = copy_workflow(*plan, folder)
            commands[plan] = [sys.executable, "-m", "snakemake", "-n", "-q", "all", "--cores", "1", *tables], folder
        measured(*commands[CellSize()])  # compiles the flows' code the first time
        for order in (1, -1):
            for what in list(commands)[::order]:
                runs.setdefault(what, []).append(measured(*commands[what]))
                print(what, {key: round(value, 1) for key, value in runs[what][-1].items()}, flush=True)

    results: dict[str, Any] = {"date": time.strftime("%Y-%m-%d"), "torch": torch.__version__, "cores": os.cpu_count()}
    results |= devices.describe(devices.choose("cpu", 1)) | {"recipe": "cpu with 2 meta epochs of a tenth of the steps"}
    columns: dict[str, Sequence[CellSize | Plan]] = {**COLUMNS, **PLANS}
    results |= {name: [facts[s] | {"runs": runs[s]} for s in column] for name, column in columns.items()}
    write_json(options.output / "growth.json", results)
    draw(results, options.output / "growth.png")


def measured(command: list, folder: Path) -> dict[str, float]:
    """Runs a command. Returns wall and processor seconds, peak resident and anonymous memory in MB, and the JSON it prints.

    Resident memory includes pages of mapped files, which the system drops when it needs room. The kernel keeps its peak (so
    does ru_maxrss, but a child starts with its parent's); anonymous memory is sampled every 10 ms.
    """
    peaks, start = {"VmHWM:": 0, "RssAnon:": 0}, time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(list(map(str, command)), cwd=folder, stdout=said, stderr=subprocess.STDOUT)
        while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
            for key, *value in map(str.split, Path(f"/proc/{process.pid}/status").read_text().splitlines()):
                if key in peaks:
                    peaks[key] = max(peaks[key], int(value[0]))
            time.sleep(0.01)
        run = {"seconds": time.perf_counter() - start, "processor_s": ended[2].ru_utime + ended[2].ru_stime}
        process.returncode = os.waitstatus_to_exitcode(ended[1])
        said.seek(0)
        *_, last = ["", *said.read().splitlines()]
    if process.returncode:
        raise SystemExit(f"error: {' '.join(map(str, command))} failed: {last}")
    run |= {"resident_mb": peaks["VmHWM:"] / 2**10, "anonymous_mb": peaks["RssAnon:"] / 2**10}
    return run | (json.loads(last) if last.startswith("{") else {})


def cell_seconds(size: CellSize, folder: Path) -> dict[str, float]:
    """One cell over the caches in ``folder``."""
    index, device, cache = index_of(size), devices.choose("cpu", 1), load(folder / "features")
    cell, split = Cell("cpu", index.dataset, index.category, "seen", size.k, "bgad", 0), splits.draw(index, "seen", 0)
    pools, recipe = {"cutpaste": load(folder / "pool")}, recipe_of(size)
    timing = run_cell(cell, recipe, index, split, cache, pools, folder, device, folder / "cell")["timing"]
    return {name: timing[name] for name in ("train_s", "evaluate_s")}


def recipe_of(size: CellSize) -> Recipe:
    full = load_recipe(Path("config/recipes/cpu.yaml"))
    assert isinstance(full.sampling, VectorDraws)  # the recipe cpu
    schedule = full.schedule.model_copy(update={"meta_epochs": 2})
    assert full.sampling.level_steps is not None
    sampling = full.sampling.model_copy(update={"level_steps": [steps // 10 for steps in full.sampling.level_steps]})
    return full.model_copy(update={"image_size": size.image_size, "schedule": schedule, "sampling": sampling})


def index_of(size: CellSize) -> Index:
    """An index of images that do not exist: a cell over cached features opens none. The test set is the same for every k."""
    counts = {"test/dent": 53 + max(size.k, 10), "test/good": 20, "train/good": size.images}  # as bottle has
    paths = [Path(kind, f"{number:04}.png") for kind, count in counts.items() for number in range(count)]
    images = [
        ImageRecord(str(path), path.parts[0], path.parts[1], str(path) if "dent" in path.parts else None, str(path))
        for path in paths
    ]
    return Index("growth", "noise", False, True, tuple(images))


def write_features(size: CellSize, folder: Path) -> float:
    """Writes a cell's image and pool caches: noise that repeats every eight images. Returns the size of the features in MB."""
    index, each, side = index_of(size), recipe_of(size).anomalies.pool, size.image_size
    pool = [path for path in splits.draw(index, "seen", 0).known(size.k) for _ in range(each)]
    for name, paths in (("features", [image.path for image in index.images]), ("pool", pool)):
        (folder / name).mkdir(parents=True)
        for level, (stride, channels) in enumerate(zip(STRIDES, CHANNELS, strict=True), start=1):
            noise = np.random.default_rng(0).standard_normal((8, (side // stride) ** 2, channels), dtype=np.float32)
            shape = (len(paths), *noise.shape[1:])
            array = np.lib.format.open_memmap(folder / name / f"level{level}.npy", mode="w+", dtype=np.float32, shape=shape)
            for start in range(0, len(paths), 8):
                array[start : start + 8] = noise[: len(paths) - start]
        masks = np.zeros((len(paths), side, side), dtype=bool)
        masks[["dent" in path for path in paths], : side // 4, : side // 4] = True
        np.save(folder / name / "masks.npy", masks)
        np.save(folder / name / "thumbnails.npy", np.zeros((len(paths), 4, 4, 3), dtype=np.uint8))
        record = {"image_size": side, "paths": paths, "seconds": 0, "weights_sha256": "-"}
        record["sha256"] = sha256_of(folder / name)
        write_json(folder / name / "features.json", record)
    return sum(path.stat().st_size for path in folder.rglob("level*.npy")) / 2**20


def copy_workflow(suites: tuple | None, times: int, folder: Path) -> tuple[dict, list[str]]:
    """Copies the workflow without any results, with ``times`` the seeds. Returns what it plans and the tables to ask for."""
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
    """One column per quantity that grows, time above memory: the fastest run of each point, and the one with most memory."""
    from bgad.report.plots import style as ps  # not above: a cell must not load pandas and seaborn

    lines = [  # row, what, label, look
        (0, "seconds", "time: whole process", {"color": ps.COLOURS[0], "marker": "o"}),
        (0, "train_s", "of which training", {"color": ps.COLOURS[1], "marker": "s", "ls": "--"}),
        (0, "evaluate_s", "of which evaluation", {"color": ps.COLOURS[2], "marker": "^", "ls": ":"}),
        (1, "resident_mb", "memory: resident, including mapped files", {"color": ps.COLOURS[3], "marker": "D"}),
        (1, "anonymous_mb", "of which anonymous", {"color": ps.COLOURS[4], "marker": "v", "ls": "--"}),
        (1, "cache_mb", "feature caches on disk", {"color": ps.PALE, "marker": "x", "ls": ":"}),
    ]
    with ps.style():
        figure, axes = ps.panels(2, 4, 2, [1.8, 1.8])
        for column, (name, key) in enumerate(zip([*COLUMNS, *PLANS], ("images", "image_size", "k", "cells"), strict=True)):
            points = results[name]
            for row, what, _, look in lines:
                values = [(min, max)[row](run.get(what, point.get(what, 0)) for run in point["runs"]) for point in points]
                if any(values):
                    axes[row][column].plot([point[key] for point in points], values, ms=4, lw=1.3, clip_on=False, **look)
            for row, unit in enumerate(("time (s)", "peak memory (MB)")):
                axes[row][column].set(xlim=(0, None), ylim=(0, None), xlabel=name if row else "", ylabel="" if column else unit)
        caption = f"Recipe {results['recipe']}; otherwise 200 images, 256 pixels, k 10. {results['cpu']}, one thread."
        handles = [ps.handle(label, ms=4, lw=1.3, **look) for _, _, label, look in lines]
        ps.finish(figure, "How time and memory grow", caption, handles, columns=2)
        with whole(path) as temporary:
            figure.savefig(temporary, dpi=ps.DOTS_PER_INCH, metadata={"Software": None})


if __name__ == "__main__":
    main()
