"""How much faster this suite is than a straightforward implementation: the same images and the same work, on this machine.

    make bench                                        on an embedded category, in minutes
    make bench MVTEC=<folder with bottle/>            on MVTec AD's bottle, about half an hour

Prints ratios, which depend less on the machine than seconds do, and writes all numbers to a JSON file. "Released" is
benchmarks/released.py. The two take turns, in separate processes, so peak memory is separate; the time of a step is a median.
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
from typing import Any

import numpy as np
import torch
from released import ReleasedCell, freia_flow, log_likelihood, metrics
from tabulate import tabulate

from bgad import devices
from bgad.anomalies.synthetic import compute_synthetic
from bgad.config.cells import Cell
from bgad.config.settings import Config, Recipe, load_recipe, read_yaml, validated
from bgad.data import mini
from bgad.data.layouts import Index, build_index
from bgad.data.splits import draw
from bgad.evaluation.metrics import aupro, auroc
from bgad.features.backbone import STRIDES, load_backbone
from bgad.features.cache import compute, load
from bgad.io import write_json
from bgad.methods.bgad import build_flows
from bgad.methods.runner import run_cell
from bgad.model.cpu import chain
from bgad.model.position import sincos_2d
from bgad.randomness import frozen_generator, torch_generator
from bgad.training.adam import Adam
from bgad.training.losses import bgad_loss

LITE0, B6 = ("tf_efficientnet_lite0", (24, 40, 112)), ("tf_efficientnet_b6", (40, 72, 200))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mvtec", type=Path, help="folder of MVTec AD; bottle is used")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--parts", nargs="*", default=["steps", "evaluation", "quality", "cell"])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--output", type=Path, default=Path("reports/bench.json"))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    device = devices.choose("cpu", options.threads)
    if options.one:
        which, _, what = options.one.partition(" ")
        found = some_steps(which) if what == "steps" else one_cell(which, what, options.mvtec, options.seeds[0], device)
        print(json.dumps(found))
        return

    results: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "data": "mvtec/bottle" if options.mvtec else "mini/brick",
    }
    results |= {**devices.describe(device), "blocks": chain.describe(), "torch": torch.__version__}
    print(", ".join(f"{key} {value}" for key, value in results.items()))
    for part in options.parts:
        results[part] = {"steps": steps, "evaluation": evaluation, "quality": quality, "cell": cell}[part](options)
        write_json(options.output, results)
    print(f"\nAll numbers: {options.output}")


def paper_shaped() -> Recipe:
    """The paper's recipe, with the small backbone and 4 x 2 epochs, as the released code runs with current PyTorch.

    There, steps of the other levels leave a level alone. With the PyTorch of 2022 momentum kept moving it, and metrics after so
    few epochs were far higher.
    """
    recipe = load_recipe(Path("config/recipes/paper.yaml"))
    schedule = recipe.schedule.model_copy(update={"meta_epochs": 4, "sub_epochs": 2})
    off = ("idle_levels_keep_momentum", "draws_follow_one_another", "test_command_keeps_known")
    quirks = recipe.quirks.model_copy(update=dict.fromkeys(off, False))
    return recipe.model_copy(update={"backbone": LITE0[0], "schedule": schedule, "quirks": quirks})


def steps(options) -> list[dict]:
    """Optimizer steps (forward, backward, Adam) of 4096 vectors, at each level of two backbones."""
    rounds: dict[str, list[dict]] = {"released": [], "ours": []}
    for _ in range(3):
        for which, found in rounds.items():
            found.append(_in_a_process(f"{which} steps", options, options.seeds[0]))
    rows = []
    for what in rounds["ours"][0]:
        taken = {which: [seconds for one in found for seconds in one[what]] for which, found in rounds.items()}
        rows.append({"what": what, **{which: statistics.median(seconds) for which, seconds in taken.items()}})
    _show("A flow step (forward, backward, Adam; 4096 vectors), milliseconds", rows, 1e3)
    return rows


def some_steps(which: str) -> dict[str, list[float]]:
    """Seconds of a few steps at each level, without the first, which warms up."""
    recipe, seconds = paper_shaped(), {}
    for backbone, channels in (LITE0, B6):
        sides = [recipe.image_size // stride for stride in STRIDES]
        flows = build_flows(recipe, channels, sides, torch_generator("bench"), frozen_generator("bench"))
        for level, flow in enumerate(flows):
            rng = torch.Generator().manual_seed(level)
            count, places = recipe.sampling.vectors, flow.height * flow.width
            vectors, position = torch.randn(count, flow.channels, generator=rng), torch.randint(places, (count,), generator=rng)
            anomalous = torch.rand(count, generator=rng) < 0.05
            code = sincos_2d(recipe.flow.position_channels, flow.height, flow.width).flatten(1).T[position]
            model = flow if which == "ours" else freia_flow(flow, recipe)
            parameters = [p for p in model.parameters() if p.requires_grad]
            optimizer: Adam | torch.optim.Adam
            if which == "ours":
                optimizer = Adam(parameters)
                optimizer.set_rate(1e-4)
            else:
                optimizer = torch.optim.Adam(parameters, lr=1e-4)
            taken = []
            for _ in range(6):
                start = time.perf_counter()
                found = flow.log_likelihood(vectors, position) if which == "ours" else log_likelihood(model, vectors, code)
                loss = bgad_loss(found, anomalous, beta=0.01, tau=0.1)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                taken.append(time.perf_counter() - start)
            seconds[f"{backbone}, level {level + 1}"] = taken[1:]
    return seconds


def evaluation(options) -> list[dict]:
    """AUROCs and PRO of 83 maps of 256 x 256, 63 of them with a defect, as in bottle."""
    rng = np.random.default_rng(0)
    masks = np.zeros((83, 256, 256), dtype=bool)
    for mask in masks[20:]:
        top, left = rng.integers(0, 200, 2)
        mask[top : top + rng.integers(8, 56), left : left + rng.integers(8, 56)] = True
    maps = rng.normal(masks * 1.5, 1).astype(np.float32)
    anomalous, scores = np.array([mask.any() for mask in masks]), maps.max((1, 2))
    implementations = {
        "released": lambda: metrics(masks, maps, anomalous, scores),
        "ours": lambda: (auroc(anomalous, scores), auroc(masks, maps), aupro(masks, maps)),
    }
    row = {}
    for which, compute_metrics in implementations.items():
        start = time.perf_counter()
        compute_metrics()
        row[which] = time.perf_counter() - start
    rows = [{"what": "AUROC of images and pixels, PRO", **row}]
    _show("The metrics of an evaluation (83 maps of 256 x 256), seconds", rows, 1)
    return rows


def cell(options) -> list[dict]:
    """Complete cells of the paper's shape, features included, with their final metrics."""
    rows = []
    for seed in options.seeds:
        found = {}
        for which in ("released", "ours"):
            found[which] = _in_a_process(f"{which} cell", options, seed)
        rows.append({"seed": seed, **found})
        shown = [[what, *(_short(found[which][what]) for which in found)] for what in found["ours"] if what != "seconds"]
        shown += [[f"seconds: {what}", _short(value), ""] for what, value in found["released"]["seconds"].items()]
        shown += [[f"seconds: {what}", "", _short(value)] for what, value in found["ours"]["seconds"].items()]
        ratio = found["released"]["total seconds"] / found["ours"]["total seconds"]
        print(f"\nA cell (4 x 2 epochs, k10, seed {seed}): {ratio:.1f} times faster")
        print(tabulate(shown, ["", "released", "ours"], disable_numparse=True, colalign=("left", "right", "right")), flush=True)
    return rows


def one_cell(which: str, what: str, mvtec: Path | None, seed: int, device: torch.device) -> dict:
    """A complete cell: ``which`` is released, ours, or quality; ``what`` is cell, or "of <epochs>" for the recipe cpu."""
    recipe, k = paper_shaped() if what == "cell" else cpu_recipe(int(what.removeprefix("of "))), 10
    dataset, category = ("mvtec", "bottle") if mvtec else ("mini", "brick")
    config = validated(Config, read_yaml(Path("config/config.yaml")), "config/config.yaml")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        root = mvtec or folder / "data"
        if not mvtec:
            mini.generate(root, category)
        index: Index = build_index(dataset, category, root, config.datasets[dataset])
        split = draw(index, "seen", seed)
        start = time.perf_counter()
        backbone = load_backbone(recipe.backbone, device)
        if which == "released":
            sides = [recipe.image_size // stride for stride in STRIDES]
            rngs = torch_generator("flow", dataset, category, seed), frozen_generator("rotation", dataset, category, seed)
            flows = [freia_flow(flow, recipe) for flow in build_flows(recipe, backbone.channels, sides, *rngs)]
            rng = torch_generator("bench", dataset, category, seed)
            released = ReleasedCell(recipe, index, split, k, root / category, backbone, flows, rng)
            found, seconds = released.run(), dict(released.seconds)
        else:
            size, pools = recipe.image_size, {}
            compute(index, root, backbone, size, folder / "features")
            if recipe.anomalies.synthetic == "pool":
                of_pool = (root, backbone, size, k, recipe.anomalies.pool, folder / "pool")
                compute_synthetic("cutpaste", index, split, *of_pool)
                pools = {"cutpaste": load(folder / "pool")}
            own = Cell("bench", dataset, category, "seen", k, "bgad", seed)
            of_cell = (index, split, load(folder / "features"), pools, root, device, folder / "cell")
            metrics = run_cell(own, recipe, *of_cell, log=lambda _: None)
            found = {name: metrics[name]["last"] for name in ("image_auroc", "pixel_auroc", "released_pro")}
            seconds = {name: metrics["timing"][name] for name in ("features_s", "train_s", "evaluate_s")}
        total = time.perf_counter() - start
    passes = recipe.schedule.meta_epochs * recipe.schedule.sub_epochs
    of_passes = ("images", "backbone", "steps") if which == "released" else ("train_s",)
    of_evaluations = [what for what in seconds if what.startswith("evaluat")]
    found["seconds a pass"] = sum(seconds[what] for what in of_passes) / passes
    found["seconds an evaluation"] = sum(seconds[what] for what in of_evaluations) / recipe.schedule.meta_epochs
    found |= {"total seconds": total, "peak memory MB": devices.peak_memory_mb(device)[0]}
    return found | (seconds if which == "quality" else {"seconds": seconds})


def cpu_recipe(epochs: int) -> Recipe:
    recipe = load_recipe(Path("config/recipes/cpu.yaml"))
    return recipe.model_copy(update={"schedule": recipe.schedule.model_copy(update={"meta_epochs": epochs})})


def quality(options) -> list[dict]:
    """The recipe cpu after three epochs and after all four, for three seeds."""
    rows = []
    for epochs in (3, 4):
        for seed in (0, 1, 2):
            rows.append({"epochs": epochs, "seed": seed, **_in_a_process(f"quality of {epochs}", options, seed)})
    keys = list(rows[0])
    print("\nThe recipe cpu, last epoch; seconds of training and of its evaluations")
    print(tabulate([[_short(row[key]) for key in keys] for row in rows], keys, disable_numparse=True), flush=True)
    return rows


def _in_a_process(what: str, options, seed: int):
    """The result of a separate process. Ours lets waiting threads sleep, as the package does; the other keeps the default."""
    command = [sys.executable, __file__, "--one", what, "--threads", str(options.threads), "--seeds", str(seed)]
    command += ["--mvtec", str(options.mvtec)] if options.mvtec else []
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    environment |= {} if "released" in what else {"OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


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
