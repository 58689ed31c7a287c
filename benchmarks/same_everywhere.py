"""How much results differ with the number of threads, library versions and processors, on this machine.

    python benchmarks/same_everywhere.py [--with FOLDER ...]      a quarter of an hour

Each run computes the cells and their table from scratch in a separate process. The first run is the reference: one thread,
compiled blocks, the locked versions. A FOLDER holds other library versions, which take precedence:

    python -m pip install --no-deps --target FOLDER numpy==2.0.2 scipy==1.13.1

Writes benchmarks/records/same-everywhere.json and docs/same-everywhere.md. ``--golden`` recomputes the tests' stored cell.
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
from bgad.evaluation.metrics import METRICS
from bgad.features.backbone import load_backbone
from bgad.features.cache import compute, load
from bgad.io import write_json, write_text
from bgad.methods.runner import run_cell
from bgad.report.tables.suite import write_table

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "benchmarks/records/same-everywhere.json"
PAGE = ROOT / "docs/same-everywhere.md"
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
    "points": "image and pixel AUROC, AUPRO and PRO of the last epoch, in percentage points",
    "losses": "each level's loss in each meta epoch, relative",
    "scores": "image scores, relative to their range",
}
# Five to eight times the worst in benchmarks/records/same-everywhere.json, which leaves room for real other processors.
TOLERANCE = {"points": 0.01, "losses": 1e-5, "scores": 1e-3}
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
# As close to a processor without AVX as the libraries' settings allow.
OLDER = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    "OPENBLAS_CORETYPE": "Nehalem",
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",  # as numpy 2.4 calls them
    "BGAD_PLAIN": "1",  # the compiled blocks are built for this processor
}
RUNS: dict[str, dict[str, str]] = {
    "reference repeated": {},
    "2 threads": {"OMP_NUM_THREADS": "2"},
    "8 threads": {"OMP_NUM_THREADS": "8"},
    "plain PyTorch blocks": {"BGAD_PLAIN": "1"},
    "PyTorch without AVX": {
        key: OLDER[key] for key in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")
    },
    "numpy and scipy without AVX": {key: OLDER[key] for key in ("OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES")},
    "older processor: the last three together": OLDER,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
    results["reference"] = {
        "versions": reference["versions"],
        "fields_of_the_table": len(reference["table"]),
        "split_sha256": {cell: of["split_sha256"] for cell, of in reference["cells"].items()},
    }
    write_json(RECORD, results)
    write_text(PAGE, page(results))


def page(results: dict) -> str:
    """The record as Markdown."""
    paper, others = (
        [name_of(cell) for cell in CELLS if (cell.method in PAPER_METHODS) is of_paper] for of_paper in (True, False)
    )
    columns = [(cells, what) for cells in (paper, others) for what in WHAT if cells is paper or what != "losses"]
    heads = [f"{'flows' if cells is paper else 'baselines'}: {what}" for cells, what in columns]
    rows = [["run", "pixels", "table", *heads], ["---"] * (3 + len(columns))]
    for name, apart in results["runs"].items():
        largest = (max(apart["cells"][cell][what] for cell in cells) for cells, what in columns)
        rows.append([name, str(apart["pixels"]), str(apart["table"]), *map(readable, largest)])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    worst = {what: max(of[what] for run in results["runs"].values() for of in run["cells"].values()) for what in WHAT}
    fields = results["reference"]["fields_of_the_table"]
    meanings = "\n".join(f"| {what} | {WHAT[what]} | {readable(worst[what])} | {TOLERANCE[what]} |" for what in WHAT)
    versions = ", ".join(f"{library} {version}" for library, version in results["reference"]["versions"].items())
    return f"""# The same everywhere

Results do not depend on the machine beyond a **stated tolerance**: not on the number of threads, on compiled or plain blocks,
on the numpy and scipy versions, or on whether the processor has AVX.

| | what | largest difference | tolerance |
|:--|:--|--:|--:|
{meanings}

The tolerance is five to eight times the largest difference, to leave room for other processors. `tests/test_golden.py`
recomputes a stored cell from scratch and holds it to this tolerance.

## Measurements

`python benchmarks/same_everywhere.py`, {results["date"]}, {results["cpu"]}, torch {results["torch"]}. Each run
computes five cells and their table from scratch and compares them with a reference: one thread, compiled blocks, {versions}.
The flows are bgad with k 3 on gravel (the golden cell), and bgad with k 10 and nf on coins, as in the demo. The baselines
are PaDiM and PatchCore on coins.

*Pixels* counts differing pixels in the embedded data set's images and masks, *table* counts differing fields among the {fields}
of table.csv. The other columns are the largest difference in any cell. 0 means identical in every stored digit (scores have
seven).

{table}

"Without AVX" stands in for an older processor: PyTorch, oneDNN, MKL, OpenBLAS and numpy were told not to use it, and the
compiled blocks, which are built for the current processor, were off.

**Not measured**: a second physical processor, arm64, AVX-512, a GPU, other torch versions, and trainings longer than the
demo's, in which rounding errors have more time to grow.
"""


def readable(value: float) -> str:
    return f"{value:.1e}" if value else "0"


def run(environment: dict[str, str], folder: Path) -> dict[str, dict]:
    """Computes every cell in a process with that environment: the cells by name, their table, and the library versions."""
    path = os.pathsep.join(filter(None, (environment.get("PYTHONPATH"), str(ROOT))))
    command = [sys.executable, __file__, "--into", str(folder)]
    variables = {**os.environ, **environment, "PYTHONPATH": path}
    done = subprocess.run(command, env=variables, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def difference(one: dict, other: dict) -> dict[str, float]:
    """The largest differences between two computations of a cell, by kind (see WHAT). Baselines have no losses."""
    metrics = [(one["metrics"][metric], other["metrics"][metric]) for metric in METRICS]
    losses = [pair for rows in zip(one["losses"], other["losses"], strict=True) for pair in zip(*rows, strict=True)]
    scores = [(one["scores"][path], other["scores"][path]) for path in one["scores"] | other["scores"]]
    return {
        "points": max(abs(a - b) for a, b in metrics),
        "losses": max((abs(a - b) / abs(a) for a, b in losses), default=0.0),
        "scores": max(abs(a - b) for a, b in scores) / (max(one["scores"].values()) - min(one["scores"].values())),
    }


def name_of(cell: Cell) -> str:
    return f"{cell.recipe} {cell.category} k{cell.k} {cell.method}"


def table_of_all(folder: Path) -> list[str]:
    """The fields of the table of all cells, collected from their folders like a suite's."""
    write_table("cells", SUITE, [*CELLS], folder / "table.md", folder / "table.csv", folder, folder)
    with (folder / "table.csv").open(newline="", encoding="utf-8") as file:
        return [field for row in csv.reader(file) for field in row]


def differing_pixels(one: Path, other: Path) -> int:
    """How many pixels differ between the two embedded data sets, images and masks."""
    names = sorted(path.relative_to(one) for path in one.rglob("*.png"))
    assert names == sorted(path.relative_to(other) for path in other.rglob("*.png"))
    return sum(int((np.asarray(Image.open(one / name)) != np.asarray(Image.open(other / name))).sum()) for name in names)


def computed(cell: Cell, recipe_file: Path, folder: Path) -> dict:
    """Computes the cell from scratch on a CPU with $OMP_NUM_THREADS threads: its metrics, losses and scores."""
    device, recipe, root = torch.device("cpu"), load_recipe(recipe_file), folder / "mini"
    devices.choose("cpu", int(os.environ.get("OMP_NUM_THREADS", 1)))
    mini.generate(root, cell.category)
    index = build_index(cell.dataset, cell.category, root, Dataset(path=root))
    split = splits.draw(index, cell.split, cell.seed)
    backbone, size = load_backbone(recipe.backbone, device), recipe.image_size
    caches, out = folder / cell.category, folder / cell.folder
    if not caches.exists():  # the first cell of a category has known anomalies
        compute(index, root, backbone, size, caches / "features")
        compute_synthetic("cutpaste", index, split, root, backbone, size, 10, recipe.anomalies.pool, caches / "pool")
    inputs, silent = (cell, recipe, index, split, load(caches / "features")), lambda line: None
    pools = {"cutpaste": load(caches / "pool")} if cell.k else {}
    values = run_cell(*inputs, pools, root, device, out, log=silent)
    with (out / "scores.csv").open(newline="") as file:
        scores = {row["path"]: float(row["score"]) for row in csv.DictReader(file)}
    with (out / "history.csv").open(newline="") as file:
        losses = [[float(row[f"loss_{level}"]) for level in (1, 2, 3) if "loss_1" in row] for row in csv.DictReader(file)]
    metrics = {metric: values[metric]["last"] for metric in METRICS}
    return {"cell": asdict(cell), "split_sha256": split.sha256, "metrics": metrics, "losses": losses, "scores": scores}


if __name__ == "__main__":
    main()
