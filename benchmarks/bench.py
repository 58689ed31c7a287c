"""How much faster than the straightforward way, on this machine: both ways side by side, the same images, the same work.

    make bench                                        on an embedded category, in minutes
    make bench MVTEC=<folder with bottle/>            on MVTec AD's bottle, about half an hour

Prints ratios, which carry from machine to machine better than seconds do, and writes them all to a JSON file. "Released" is
benchmarks/released.py. Steps and evaluations are timed in turn in one process, the median of several; cells run one after
the other in a process each, so that their peak memory can be told apart.
"""

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from released import ReleasedCell, figures, freia_flow, log_likelihood
from tabulate import tabulate

from bgad import coupling, devices, mini
from bgad.backbones import STRIDES, load_backbone
from bgad.cells import Cell
from bgad.datasets import Index, build_index
from bgad.features import compute, load
from bgad.files import write_json
from bgad.losses import bgad_loss
from bgad.metrics import aupro, auroc
from bgad.position import sincos_2d
from bgad.randomness import frozen_generator, torch_generator
from bgad.results import run_cell
from bgad.settings import Config, Recipe, load_recipe, read_yaml, validated
from bgad.splits import draw
from bgad.train import build_flows

LITE0, B6 = ("tf_efficientnet_lite0", (24, 40, 112)), ("tf_efficientnet_b6", (40, 72, 200))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mvtec", type=Path, help="folder of MVTec AD, of which bottle is taken")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--parts", nargs="*", default=["steps", "evaluation", "cell"])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--output", type=Path, default=Path("reports/bench.json"))
    parser.add_argument("--one", choices=["released", "ours"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    device = devices.choose("cpu", options.threads)
    if options.one:
        print(json.dumps(one_cell(options.one, options.mvtec, options.seeds[0], device)))
        return

    results = {"date": datetime.date.today().isoformat(), "data": "mvtec/bottle" if options.mvtec else "mini/brick"}
    results |= {**devices.describe(device), "blocks": coupling.describe(), "torch": torch.__version__}
    print(", ".join(f"{key} {value}" for key, value in results.items()))
    for part in options.parts:
        results[part] = {"steps": steps, "evaluation": evaluation, "cell": cell}[part](options)
        write_json(options.output, results)
    print(f"\nAll figures: {options.output}")


def paper_shaped() -> Recipe:
    """The paper's recipe, with the small backbone and 4 x 2 epochs."""
    recipe = load_recipe(Path("config/recipes/paper.yaml"))
    schedule = recipe.schedule.model_copy(update={"meta_epochs": 4, "sub_epochs": 2})
    quirks = recipe.quirks.model_copy(update={"draws_follow_one_another": False, "test_command_keeps_known": False})
    return recipe.model_copy(update={"backbone": LITE0[0], "schedule": schedule, "quirks": quirks})


def steps(options) -> list[dict]:
    """Single optimizer steps, forward, backward and Adam, of each level of two backbones, 4096 vectors each."""
    recipe, rows = paper_shaped(), []
    for backbone, channels in (LITE0, B6):
        sides = [recipe.image_size // stride for stride in STRIDES]
        flows = build_flows(recipe, channels, sides, torch_generator("bench"), frozen_generator("bench"))
        for level, flow in enumerate(flows):
            rng = torch.Generator().manual_seed(level)
            count, places = recipe.sampling.vectors, flow.height * flow.width
            vectors, position = torch.randn(count, flow.channels, generator=rng), torch.randint(places, (count,), generator=rng)
            anomalous = torch.rand(count, generator=rng) < 0.05
            code = sincos_2d(recipe.flow.position_channels, flow.height, flow.width).flatten(1).T[position]
            sequence = freia_flow(flow, recipe)
            ours = _step(flow.parameters(), lambda: flow.log_likelihood(vectors, position), anomalous, fused=True)  # noqa: B023
            theirs = _step(sequence.parameters(), lambda: log_likelihood(sequence, vectors, code), anomalous, fused=False)  # noqa: B023
            rows.append({"what": f"{backbone}, level {level + 1}", **_in_turn(theirs, ours, 9)})
    _show("A flow step (forward, backward, Adam; 4096 vectors), milliseconds", rows, 1e3)
    return rows


def _step(parameters, log_likelihood_of, anomalous: torch.Tensor, fused: bool):
    optimizer = torch.optim.Adam([p for p in parameters if p.requires_grad], lr=1e-4, fused=fused)

    def step():
        loss = bgad_loss(log_likelihood_of(), anomalous, 0.01, 0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def evaluation(options) -> list[dict]:
    """Pixel AUROC and PRO of 83 maps of 256 x 256 with a defect in 63 of them, as bottle has."""
    rng = np.random.default_rng(0)
    masks = np.zeros((83, 256, 256), dtype=bool)
    for mask in masks[20:]:
        top, left = rng.integers(0, 200, 2)
        mask[top : top + rng.integers(8, 56), left : left + rng.integers(8, 56)] = True
    maps = rng.normal(masks * 1.5, 1).astype(np.float32)
    anomalous, scores = masks.any((1, 2)), maps.max((1, 2))
    row = _in_turn(
        lambda: figures(masks, maps, anomalous, scores),
        lambda: (auroc(anomalous, scores), auroc(masks, maps), aupro(masks, maps)),
        1,
    )
    rows = [{"what": "AUROC of images and pixels, PRO", **row}]
    _show("An evaluation's figures (83 maps of 256 x 256), seconds", rows, 1)
    return rows


def cell(options) -> list[dict]:
    """Whole cells of the paper's shape, features included, with what they end in."""
    rows = []
    for seed in options.seeds:
        found = {}
        for which in ("released", "ours"):
            command = [sys.executable, __file__, "--one", which, "--threads", str(options.threads), "--seeds", str(seed)]
            command += ["--mvtec", str(options.mvtec)] if options.mvtec else []
            found[which] = json.loads(
                subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
            )
        rows.append({"seed": seed, **found})
        shown = [[what, *(_short(found[which][what]) for which in found)] for what in found["ours"] if what != "seconds"]
        shown += [[f"seconds: {what}", _short(value), ""] for what, value in found["released"]["seconds"].items()]
        shown += [[f"seconds: {what}", "", _short(value)] for what, value in found["ours"]["seconds"].items()]
        ratio = found["released"]["total seconds"] / found["ours"]["total seconds"]
        print(f"\nA cell (4 x 2 epochs, k10, seed {seed}): {ratio:.1f} times faster")
        print(tabulate(shown, ["", "released", "ours"], disable_numparse=True, colalign=("left", "right", "right")), flush=True)
    return rows


def one_cell(which: str, mvtec: Path | None, seed: int, device: torch.device) -> dict:
    recipe, k = paper_shaped(), 10
    dataset, category = ("mvtec", "bottle") if mvtec else ("mini", "brick")
    config = validated(Config, read_yaml(Path("config/config.yaml")), "config/config.yaml")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        root = mvtec or folder / "data"
        if not mvtec:
            mini.generate(root, category)
        index: Index = build_index(dataset, category, root, config.datasets[dataset])
        split = draw(index, "seen", seed)
        start = time.perf_counter()
        backbone = load_backbone(recipe.backbone, device)
        if which == "ours":
            compute(index, root, backbone, recipe.image_size, folder / "features")
            cache, own = load(folder / "features"), Cell("bench", dataset, category, "seen", k, "bgad", seed)
            metrics = run_cell(own, recipe, index, split, cache, {}, root, device, folder / "cell", say=lambda _: None)
            found = {name: metrics[name]["last"] for name in ("image_auroc", "pixel_auroc", "released_pro")}
            seconds = {name: metrics["timing"][name] for name in ("features_s", "train_s", "evaluate_s")}
        else:
            sides = [recipe.image_size // stride for stride in STRIDES]
            rngs = torch_generator("flow", dataset, category, seed), frozen_generator("rotation", dataset, category, seed)
            flows = [freia_flow(flow, recipe) for flow in build_flows(recipe, backbone.channels, sides, *rngs)]
            rng = torch_generator("bench", dataset, category, seed)
            released = ReleasedCell(recipe, index, split, k, root / category, backbone, flows, rng)
            found, seconds = released.run(), dict(released.seconds)
        total = time.perf_counter() - start
    return {**found, "total seconds": total, "peak memory MB": devices.peak_memory_mb(device)[0], "seconds": seconds}


def _in_turn(theirs, ours, times: int) -> dict[str, float]:
    """Median seconds of both, taken in turn; the first of each, which warms up, does not count."""
    taken = {"released": [], "ours": []}
    for number in range(times + 1):
        for which, function in (("released", theirs), ("ours", ours)):
            start = time.perf_counter()
            function()
            if number or times == 1:
                taken[which].append(time.perf_counter() - start)
    return {which: statistics.median(values) for which, values in taken.items()}


def _show(title: str, rows: list[dict], factor: float) -> None:
    shown = [
        [row["what"], _short(row["released"] * factor), _short(row["ours"] * factor), f"{row['released'] / row['ours']:.1f}"]
        for row in rows
    ]
    aligned = ("left", "right", "right", "right")
    print(
        f"\n{title}\n" + tabulate(shown, ["", "released", "ours", "ratio"], disable_numparse=True, colalign=aligned), flush=True
    )


def _short(value: float) -> str:
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


if __name__ == "__main__":
    main()
