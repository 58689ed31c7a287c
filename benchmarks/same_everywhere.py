"""How far apart the same cells come out under other threads, library versions and processors, on this machine.

    python benchmarks/same_everywhere.py [--output docs] [--with FOLDER ...]      some ten minutes

Each run goes from nothing to a cell's figures in a process of its own, and is held against the first one: one thread, compiled
blocks, the locked versions. A FOLDER has other versions, which come first:

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

from bgad import devices, mini, splits
from bgad.backbones import load_backbone
from bgad.cells import Cell
from bgad.datasets import build_index
from bgad.evaluate import METRICS
from bgad.features import compute, compute_synthetic, load
from bgad.files import write_json, write_text
from bgad.results import run_cell
from bgad.settings import Dataset, load_recipe

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
GOLDEN_CELL = Cell("golden", "mini", "gravel", "seen", 3, "bgad", 0)
CELLS = {
    GOLDEN_CELL: GOLDEN / "golden.yaml",
    Cell("demo", "mini", "coins", "seen", 10, "bgad", 0): ROOT / "config/recipes/demo.yaml",
}
WHAT = {
    "points": "image and pixel AUROC, AUPRO and PRO of the last epoch, in points of percent",
    "losses": "each level's loss in each meta epoch, in parts of itself",
    "scores": "the images' scores, in parts of the range between the lowest and the highest",
}
# About ten times the worst of docs/same-everywhere.json over both cells: other processors than those stand-ins are to fit too.
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
        of_cells = {cell.recipe: computed(cell, recipe, options.into) for cell, recipe in CELLS.items()}
        return print(json.dumps(of_cells | {"versions": {"numpy": np.__version__, "scipy": scipy.__version__}}))
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
            versions = other.pop("versions")
            if versions != reference["versions"]:
                name = ", ".join(f"{library} {version}" for library, version in versions.items())
            pixels = differing_pixels(first / "mini", folder / "mini")
            apart = {cell: difference(reference[cell], other[cell]) for cell in other}
            results["runs"][name] = {"pixels": pixels, **apart}
            print(name, results["runs"][name], flush=True)
    results["reference"] = reference
    write_json(options.output / "same-everywhere.json", results)
    write_text(options.output / "same-everywhere.md", page(results))


def page(results: dict) -> str:
    """The Markdown of a measurement."""
    cells = [cell.recipe for cell in CELLS]
    columns = [(cell, what) for cell in cells for what in WHAT]
    rows = [["against the reference", "pixels", *(f"{cell}: {what}" for cell, what in columns)], ["---"] * (2 + len(columns))]
    for name, apart in results["runs"].items():
        rows.append([name, str(apart["pixels"]), *(readable(apart[cell][what]) for cell, what in columns)])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    worst = {what: max(run[cell][what] for run in results["runs"].values() for cell in cells) for what in WHAT}
    meanings = "\n".join(f"| {what} | {WHAT[what]} | {readable(worst[what])} | {TOLERANCE[what]} |" for what in WHAT)
    versions = ", ".join(f"{library} {version}" for library, version in results["reference"]["versions"].items())
    return f"""# The same everywhere

The same cell comes out the same under any number of threads, with compiled or plain blocks, with other versions of numpy and
scipy, and on another processor, to a **stated tolerance**:

| | what | worst | tolerance |
|:--|:--|--:|--:|
{meanings}

The tolerance is about ten times the worst that was measured. `tests/test_golden.py` computes a stored cell anew, from nothing
to its figures, and holds it against that.

## Measured

By `benchmarks/same_everywhere.py` on {results["date"]}, on {results["cpu"]} with torch {results["torch"]}. Each cell was
computed from nothing, data set and all, and held against a reference: one thread, compiled blocks,
{versions}. The largest differences of the two cells (golden: gravel with k 3 in small; demo: coins with k 10 as in the
demo), and how many pixels of the embedded data set's images and masks are not the same.
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
    """The largest differences between two computations of a cell, by what differs (see WHAT)."""
    figures = [(one["figures"][metric], other["figures"][metric]) for metric in METRICS]
    losses = [pair for rows in zip(one["losses"], other["losses"], strict=True) for pair in zip(*rows, strict=True)]
    scores = [(one["scores"][path], other["scores"][path]) for path in one["scores"] | other["scores"]]
    return {
        "points": max(abs(a - b) for a, b in figures),
        "losses": max(abs(a - b) / abs(a) for a, b in losses),
        "scores": max(abs(a - b) for a, b in scores) / (max(one["scores"].values()) - min(one["scores"].values())),
    }


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
    out = folder / cell.recipe
    compute(index, root, backbone, size, out / "features")
    compute_synthetic("cutpaste", index, split, root, backbone, size, 10, recipe.anomalies.pool, out / "pool")
    pools = {"cutpaste": load(out / "pool")}
    values = run_cell(cell, recipe, index, split, load(out / "features"), pools, root, device, out, say=lambda line: None)
    with (out / "scores.csv").open(newline="") as file:
        scores = {row["path"]: float(row["score"]) for row in csv.DictReader(file)}
    with (out / "history.csv").open(newline="") as file:
        losses = [[float(row[f"loss_{level}"]) for level in (1, 2, 3)] for row in csv.DictReader(file)]
    figures = {metric: values[metric]["last"] for metric in METRICS}
    return {"cell": asdict(cell), "split_sha256": split.sha256, "figures": figures, "losses": losses, "scores": scores}


if __name__ == "__main__":
    main()
