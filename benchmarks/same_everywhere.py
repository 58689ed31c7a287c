"""How far apart the same table comes out under other threads, library versions and processors, on this machine.

    python benchmarks/same_everywhere.py [--output docs] [--with FOLDER ...]      a quarter of an hour

Each run goes from nothing to the cells and their table in a process of its own, and is held against the first one: one thread,
compiled blocks, the locked versions. A FOLDER has other versions, which come first:

    python -m pip install --no-deps --target FOLDER numpy==2.0.2 scipy==1.13.1

Writes same-everywhere.json and same-everywhere.md. With ``--golden`` the golden cell of the tests is computed and written anew.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch
from PIL import Image

from bgad import devices
from bgad.anomalies.synthetic import compute_synthetic
from bgad.config.cells import Cell
from bgad.config.methods import PAPER_METHODS
from bgad.config.settings import Block, Dataset, Suite, load_recipe
from bgad.data import mini, splits
from bgad.data.layouts import build_index
from bgad.evaluation.metrics import METRICS as FIGURES
from bgad.features.backbone import load_backbone
from bgad.features.cache import compute, load
from bgad.io import write_json, write_text
from bgad.methods.runner import run_cell
from bgad.report.tables.suite import write_table

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
GOLDEN_CELL = Cell("golden", "mini", "gravel", "seen", 3, "bgad", 0)
DEMO = ROOT / "config/recipes/demo.yaml"
CELLS = {
    GOLDEN_CELL: GOLDEN / "golden.yaml",
    Cell("demo", "mini", "coins", "seen", 10, "bgad", 0): DEMO,
    Cell("demo", "mini", "coins", "seen", 0, "nf", 0): DEMO,
    Cell("demo", "mini", "coins", "seen", 0, "padim", 0): DEMO,
    Cell("demo", "mini", "coins", "seen", 0, "patchcore", 0): DEMO,
}
SUITE = Suite(
    title="Cells",
    question="Are they the same?",
    grid=[
        Block(
            recipe=of.recipe,
            dataset="mini",
            categories=[of.category],
            splits=["seen"],
            k=[of.k],
            methods=[of.method],
            seeds=[0],
        )
        for of in CELLS
    ],
)
WHAT = {
    "points": "image and pixel AUROC, AUPRO and PRO of the last epoch, in points of percent",
    "losses": "each level's loss in each meta epoch, in parts of itself",
    "scores": "the images' scores, in parts of the range between the lowest and the highest",
}
# Five to eight times the worst of docs/same-everywhere.json: other processors than those stand-ins are to fit too.
TOLERANCE = {"points": 0.01, "losses": 1e-5, "scores": 1e-3}
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
# As a processor without AVX would compute, as far as libraries let themselves be told.
OLDER = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    "OPENBLAS_CORETYPE": "Nehalem",
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",  # as numpy 2.4 calls them
    "BGAD_PLAIN": "1",  # the compiled blocks are built for the processor that is there
}
RUNS: dict[str, dict[str, str]] = {
    "the same again": {},
    "2 threads": {"OMP_NUM_THREADS": "2"},
    "8 threads": {"OMP_NUM_THREADS": "8"},
    "plain PyTorch blocks": {"BGAD_PLAIN": "1"},
    "PyTorch without AVX": {
        key: OLDER[key] for key in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")
    },
    "numpy and scipy without AVX": {key: OLDER[key] for key in ("OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES")},
    "an older processor: all of these three": OLDER,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("docs"))
    parser.add_argument("--with", type=Path, nargs="*", default=[], dest="versions", metavar="FOLDER")
    parser.add_argument("--golden", action="store_true")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.into:
        of_cells = {name_of(cell): computed(cell, recipe, options.into) for cell, recipe in CELLS.items()}
        versions = {"numpy": np.__version__, "scipy": scipy.__version__}
        return print(json.dumps({"cells": of_cells, "table": table_of_all(options.into), "versions": versions}))
    if options.golden:
        with tempfile.TemporaryDirectory() as temporary:
            return write_json(GOLDEN / "cell.json", computed(GOLDEN_CELL, CELLS[GOLDEN_CELL], Path(temporary)))

    results: dict[str, Any] = {"date": time.strftime("%Y-%m-%d"), "torch": torch.__version__, "runs": {}}
    results |= devices.describe(devices.choose("cpu", 1))
    runs = RUNS | {
        f"other versions {number}": {"PYTHONPATH": str(path.resolve())} for number, path in enumerate(options.versions)
    }
    with tempfile.TemporaryDirectory() as temporary:
        first = Path(temporary, "reference")
        reference = run(ONE_THREAD, first)
        for name, environment in runs.items():
            folder = Path(temporary, name)
            other = run(ONE_THREAD | environment, folder)
            if other["versions"] != reference["versions"]:
                name = ", ".join(f"{library} {version}" for library, version in other["versions"].items())
            pairs = zip(reference["table"], other["table"], strict=True)
            results["runs"][name] = {
                "pixels": differing_pixels(first / "mini", folder / "mini"),
                "table": sum(one != another for one, another in pairs),
                "cells": {cell: difference(reference["cells"][cell], of) for cell, of in other["cells"].items()},
            }
            print(name, results["runs"][name], flush=True)
    reference["fields_of_the_table"] = len(reference.pop("table"))
    results["reference"] = reference
    write_json(options.output / "same-everywhere.json", results)
    write_text(options.output / "same-everywhere.md", page(results))


def page(results: dict) -> str:
    """The Markdown of a measurement."""
    paper, others = (
        [name_of(cell) for cell in CELLS if (cell.method in PAPER_METHODS) is of_paper] for of_paper in (True, False)
    )
    columns = [(cells, what) for cells in (paper, others) for what in WHAT if cells is paper or what != "losses"]
    heads = [f"{'flows' if cells is paper else 'detectors'}: {what}" for cells, what in columns]
    rows = [["against the reference", "pixels", "table", *heads], ["---"] * (3 + len(columns))]
    for name, apart in results["runs"].items():
        largest = (max(apart["cells"][cell][what] for cell in cells) for cells, what in columns)
        rows.append([name, str(apart["pixels"]), str(apart["table"]), *map(readable, largest)])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    worst = {what: max(of[what] for run in results["runs"].values() for of in run["cells"].values()) for what in WHAT}
    fields = results["reference"]["fields_of_the_table"]
    meanings = "\n".join(f"| {what} | {WHAT[what]} | {readable(worst[what])} | {TOLERANCE[what]} |" for what in WHAT)
    versions = ", ".join(f"{library} {version}" for library, version in results["reference"]["versions"].items())
    return f"""# The same everywhere

The same table comes out the same under any number of threads, with compiled or plain blocks, with other versions of numpy and
scipy, and on a processor that is told to do without AVX, to a **stated tolerance**:

| | what | worst | tolerance |
|:--|:--|--:|--:|
{meanings}

The tolerance is five to eight times the worst that was measured, since other processors are to fit too. `tests/test_golden.py`
computes a stored cell anew, from nothing to its figures, and holds it against that.

## Measured

By `benchmarks/same_everywhere.py` on {results["date"]}, on {results["cpu"]} with torch {results["torch"]}. Five cells and their
table were computed from nothing, data set and all, and held against a reference: one thread, compiled blocks,
{versions}. The flows are bgad with k 3 on gravel (the golden cell), and bgad with k 10 and nf on coins, as in the demo; the
detectors are PaDiM and PatchCore on coins. How many pixels of the embedded data set's images and masks are not the same, how
many of the {fields} fields of table.csv, whose figures have two digits after the point, and the largest differences of cells.
0 is the same in all digits that the files have, seven of a score:

{table}

"Without AVX" stands for an older processor: PyTorch, oneDNN, MKL, OpenBLAS and numpy were told to do without, and the
compiled blocks, which are built for the processor that is there, were left out. **Not measured**: a real second processor,
arm64, AVX-512, a GPU, other versions of torch, and longer trainings than the demo's, in which roundings have more time to grow.
"""


def readable(value: float) -> str:
    return f"{value:.1e}" if value else "0"


def run(environment: dict[str, str], folder: Path) -> dict[str, dict]:
    """``computed`` for every cell, by the name of its recipe, and the versions, in a process with that environment."""
    path = os.pathsep.join(filter(None, (environment.get("PYTHONPATH"), str(ROOT))))
    command = [sys.executable, __file__, "--into", str(folder)]
    variables = {**os.environ, **environment, "PYTHONPATH": path}
    done = subprocess.run(command, env=variables, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def difference(one: dict, other: dict) -> dict[str, float]:
    """The largest differences between two computations of a cell, by what differs (see WHAT); a detector has no losses."""
    figures = [(one["figures"][metric], other["figures"][metric]) for metric in FIGURES]
    losses = [pair for rows in zip(one["losses"], other["losses"], strict=True) for pair in zip(*rows, strict=True)]
    scores = [(one["scores"][path], other["scores"][path]) for path in one["scores"] | other["scores"]]
    return {
        "points": max(abs(a - b) for a, b in figures),
        "losses": max((abs(a - b) / abs(a) for a, b in losses), default=0.0),
        "scores": max(abs(a - b) for a, b in scores) / (max(one["scores"].values()) - min(one["scores"].values())),
    }


def name_of(cell: Cell) -> str:
    return f"{cell.recipe} {cell.category} k{cell.k} {cell.method}"


def table_of_all(folder: Path) -> list[str]:
    """The fields of the table of all cells, made from their folders as a suite's is."""
    write_table("cells", SUITE, [*CELLS], folder / "table.md", folder / "table.csv", folder, folder)
    with (folder / "table.csv").open(newline="", encoding="utf-8") as file:
        return [field for row in csv.reader(file) for field in row]


def differing_pixels(one: Path, other: Path) -> int:
    """How many pixels of the two embedded data sets, images and masks, are not the same."""
    names = sorted(path.relative_to(one) for path in one.rglob("*.png"))
    assert names == sorted(path.relative_to(other) for path in other.rglob("*.png"))
    return sum(int((np.asarray(Image.open(one / name)) != np.asarray(Image.open(other / name))).sum()) for name in names)


def computed(cell: Cell, recipe_file: Path, folder: Path) -> dict:
    """The cell from nothing, on a CPU with as many threads as $OMP_NUM_THREADS says: its figures, losses and scores."""
    device, recipe, root = torch.device("cpu"), load_recipe(recipe_file), folder / "mini"
    devices.choose("cpu", int(os.environ.get("OMP_NUM_THREADS", 1)))
    mini.generate(root, cell.category)
    index = build_index(cell.dataset, cell.category, root, Dataset(path=root))
    split = splits.draw(index, cell.split, cell.seed)
    backbone, size = load_backbone(recipe.backbone, device), recipe.image_size
    caches, out = folder / cell.category, folder / cell.folder
    if not caches.exists():  # the first cell of its category, which is one with known anomalies
        compute(index, root, backbone, size, caches / "features")
        compute_synthetic("cutpaste", index, split, root, backbone, size, 10, recipe.anomalies.pool, caches / "pool")
    inputs, silent = (cell, recipe, index, split, load(caches / "features")), lambda line: None
    pools = {"cutpaste": load(caches / "pool")} if cell.k else {}
    values = run_cell(*inputs, pools, root, device, out, log=silent)
    with (out / "scores.csv").open(newline="") as file:
        scores = {row["path"]: float(row["score"]) for row in csv.DictReader(file)}
    with (out / "history.csv").open(newline="") as file:
        losses = [[float(row[f"loss_{level}"]) for level in (1, 2, 3) if "loss_1" in row] for row in csv.DictReader(file)]
    figures = {metric: values[metric]["last"] for metric in FIGURES}
    return {"cell": asdict(cell), "split_sha256": split.sha256, "figures": figures, "losses": losses, "scores": scores}


if __name__ == "__main__":
    main()
