"""What torch.optim.Adam costs a cell instead of bgad/training/adam.py: processor time and memory of the cell's process.

    python benchmarks/adam.py                  about two minutes

Computes the features of a demo cell once. Then processes with either Adam train and evaluate it, in turn.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from bgad import devices
from bgad.config.cells import Cell
from bgad.config.settings import Dataset, load_recipe
from bgad.data.layouts import build_index
from bgad.data.splits import draw
from bgad.features.cache import load
from bgad.methods.runner import run_cell
from bgad.training import train

CELL = Cell("demo", "mini", "coins", "seen", 10, "bgad", 0)
RECIPE = Path(__file__).parents[1] / "config/recipes/demo.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", nargs=2, metavar=("ADAM", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        return print(json.dumps(cell(options.one[0], Path(options.one[1]))))

    taken: dict[str, list[tuple[float, float, float]]] = {"ours": [], "torch.optim": []}
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        for _ in range(options.rounds):
            for which, found in taken.items():
                command = [sys.executable, __file__, "--one", which, folder]
                environment = {**os.environ, "OMP_NUM_THREADS": "1"}
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
                found.append(json.loads(done.stdout.splitlines()[-1]))
    medians = {which: [statistics.median(column) for column in zip(*found, strict=True)] for which, found in taken.items()}
    for which, (seconds, memory, auroc) in medians.items():
        print(f"{which:12} {seconds:5.2f} s of processor time  {memory:5.0f} MB  pixel AUROC {auroc}")
    print(f"ratio        {medians['torch.optim'][0] / medians['ours'][0]:5.2f}")


def prepare(folder: Path) -> None:
    """The cell's images, features and synthetic images."""
    from bgad.anomalies.synthetic import compute_synthetic  # the cell's own process needs neither this nor a backbone
    from bgad.data import mini
    from bgad.features.backbone import load_backbone
    from bgad.features.cache import compute

    recipe, device, root = load_recipe(RECIPE), devices.choose("cpu", 1), folder / "mini"
    mini.generate(root, CELL.category)
    index = build_index(CELL.dataset, CELL.category, root, Dataset(path=root))
    backbone, split, size = load_backbone(recipe.backbone, device), draw(index, CELL.split, CELL.seed), recipe.image_size
    compute(index, root, backbone, size, folder / "features")
    compute_synthetic("cutpaste", index, split, root, backbone, size, CELL.k, recipe.anomalies.pool, folder / "pool")


def cell(which: str, folder: Path) -> tuple[float, float, float | None]:
    """Trains and evaluates the cell: processor seconds, peak MB, pixel AUROC."""
    if which == "torch.optim":
        train.Adam = TorchAdam  # type: ignore[misc, assignment]
    device, root = devices.choose("cpu", 1), folder / "mini"
    index = build_index(CELL.dataset, CELL.category, root, Dataset(path=root))
    inputs = load(folder / "features"), {"cutpaste": load(folder / "pool")}, root, device, folder / "cell"
    split = draw(index, CELL.split, CELL.seed)
    metrics = run_cell(CELL, load_recipe(RECIPE), index, split, *inputs, log=lambda _: None)
    assert ("torch._dynamo" in sys.modules) is (which == "torch.optim")
    return time.process_time(), devices.peak_memory_mb(device)[0], metrics["pixel_auroc"]["last"]


class TorchAdam(torch.optim.Adam):
    """torch.optim.Adam as the training loop calls ours."""

    def __init__(self, parameters: list[torch.Tensor], recordable: bool = False):
        super().__init__(parameters, lr=0.0, fused=True, capturable=recordable)

    def set_rate(self, rate: float) -> None:
        self.param_groups[0]["lr"] = rate


if __name__ == "__main__":
    main()
