"""How fast a GPU trains: steps, a pass of the paper's recipe, an evaluation, memory. It takes minutes and no download.

    .venv/bin/python benchmarks/gpu.py                            on the first GPU, into reports/bench-gpu.json
    .venv/bin/python benchmarks/gpu.py --device cpu --quick       tries the script; its numbers mean nothing

Features, masks and the backbone's weights are random, in the shapes of MVTec AD's bottle (209 normal images, 10 known
anomalies as 50 real and 50 CutPaste entries a pass, 83 test images), because times only depend on shapes. A complete cell is
extrapolated from a few passes, under that name. No number here says how well anything detects.
"""

import argparse
import datetime
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from paper_cell import BACKBONES, PAPERS, QUICK, Size, cell, cells_at_once, paper_flows, wait
from PIL import Image
from released import freia_flow, log_likelihood

from bgad import devices
from bgad.anomalies.cutpaste import cut_paste, foreground
from bgad.config.settings import ImageBatches, Recipe, load_recipe
from bgad.features.backbone import LEVELS
from bgad.io import write_json
from bgad.model.flow import ConditionalFlow, describe
from bgad.model.gpu import chain
from bgad.model.gpu.recorded import WARM_UP, CudaRecorder, RecordedSteps, available
from bgad.model.position import sincos_2d
from bgad.randomness import torch_generator
from bgad.training.adam import Adam
from bgad.training.losses import bgad_loss
from bgad.training.sampling import MiniBatch

RECIPE = Path(__file__).parents[1] / "config" / "recipes" / "paper.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:<n> or cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--quick", action="store_true", help="tiny shapes: only tries the script")
    parser.add_argument("--output", type=Path, default=Path("reports/bench-gpu.json"))
    options = parser.parse_args()
    os.environ.pop("BGAD_TRITON", None)  # each part says whether it uses the kernels
    device = devices.choose(options.device, options.threads)
    size, recipe = (QUICK, _tiny(load_recipe(RECIPE))) if options.quick else (Size(), load_recipe(RECIPE))

    started = time.perf_counter()
    results: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "what": "random features, masks and weights in the shapes of MVTec AD's bottle"
        + (", made tiny: these numbers mean nothing" if options.quick else ""),
        "machine": {**devices.describe(device), "torch": torch.__version__, "cuda": torch.version.cuda},
        "blocks": describe(device),
        "recorded": available(device),
    }
    parts = {"steps": steps, "images": images, "cell": cell, "cell_triton": cell_triton, "cells_at_once": cells_at_once}
    for name, part in parts.items():
        results[name] = part(recipe, size, device, results)
        print(name, *(results[name] if isinstance(results[name], list) else results[name].items()), sep="\n    ", flush=True)
        results["benchmark_s"] = round(time.perf_counter() - started, 1)
        write_json(options.output, results)
    print(f"\nAll numbers, after {results['benchmark_s']} s: {options.output}")


def steps(recipe: Recipe, size: Size, device: torch.device, _) -> list[dict]:
    """Milliseconds of an optimizer step (forward, backward, Adam) at each level: FrEIA's own forward, ours, ours recorded,
    and ours recorded with the Triton kernels where they take the level."""
    rows = []
    for backbone in BACKBONES:
        for level, flow in enumerate(paper_flows(recipe, backbone)):
            sequence = freia_flow(flow, recipe).to(device)
            flow = flow.to(device)
            rng = torch_generator("bench", level, device=device)
            count, places = recipe.sampling.vectors, flow.height * flow.width
            features = torch.randn(count, flow.channels, generator=rng, device=device)
            position = torch.randint(places, (count,), generator=rng, device=device)
            anomalous = torch.rand(count, generator=rng, device=device) < 0.05
            batch = MiniBatch(level, features, position, anomalous, 0, 1)
            code = sincos_2d(recipe.flow.position_channels, flow.height, flow.width).flatten(1).T.to(device)[position]
            row = {"backbone": backbone, "level": level + 1, "vectors": count}

            own_adam = torch.optim.Adam([p for p in sequence.parameters() if p.requires_grad], lr=1e-4)
            theirs = _step(recipe, own_adam, lambda batch: log_likelihood(sequence, batch.features, code))  # noqa: B023
            row["freia_ms"] = _milliseconds(lambda: theirs(batch), size, device)  # noqa: B023
            ours = _step(recipe, _adam(flow), lambda batch: flow.log_likelihood(batch.features, batch.position))  # noqa: B023
            row["eager_ms"] = _milliseconds(lambda: ours(batch), size, device)  # noqa: B023
            row["recorded_ms"] = row["triton_ms"] = None
            if available(device):
                row["recorded_ms"] = _recorded_ms(recipe, flow, batch, size, device)
                with triton_kernels():
                    if chain.available(features):
                        row["triton_ms"] = _recorded_ms(recipe, flow, batch, size, device)
            rows.append(row)
    return rows


def images(recipe: Recipe, size: Size, device: torch.device, _) -> dict:
    """The cost of a pass's fresh CutPaste images: making one on one core, of images in memory, and its features as one of a
    batch."""
    rng = np.random.default_rng(0)
    side = size.side
    across = np.hypot(*(np.mgrid[:side, :side] - side / 2))
    normal = np.where(across[..., None] < 0.4 * side, rng.integers(0, 99, (side, side, 3)), 255).astype(np.uint8)
    defect = np.hypot(*(np.mgrid[:side, :side] - side / 3)) < side / 16
    known = np.where(defect[..., None], 200, normal).astype(np.uint8)
    ground, taken = foreground(normal, False), []
    for _ in range(max(3, size.steps // 5)):
        start = time.perf_counter()
        pasted, _ = cut_paste(normal, ground, known, defect, rng)
        Image.fromarray(pasted).resize((recipe.image_size, recipe.image_size), Image.Resampling.LANCZOS)
        taken.append(time.perf_counter() - start)

    backbone = timm.create_model(PAPERS, pretrained=False, features_only=True, out_indices=LEVELS).eval().to(device)
    assert isinstance(recipe.sampling, ImageBatches)  # the paper's recipe
    batch = torch.rand(min(32, recipe.sampling.images), 3, recipe.image_size, recipe.image_size, device=device)
    with torch.inference_mode():
        through = _milliseconds(lambda: backbone(batch), Size(steps=max(1, size.steps // 10)), device)
    return {"cutpaste_ms_an_image_and_core": 1e3 * statistics.mean(taken), "backbone_ms_an_image": through / len(batch)}


def cell_triton(recipe: Recipe, size: Size, device: torch.device, results: dict) -> dict:
    """As ``cell``, with the Triton kernels; empty where they cannot run."""
    with triton_kernels():
        return cell(recipe, size, device, results) if chain.switched_on(device) else {}


@contextmanager
def triton_kernels() -> Iterator[None]:
    """Switches the Triton kernels on."""
    os.environ["BGAD_TRITON"] = "1"
    try:
        yield
    finally:
        del os.environ["BGAD_TRITON"]


def _recorded_ms(recipe: Recipe, flow: ConditionalFlow, batch: MiniBatch, size: Size, device: torch.device) -> float:
    adam = _adam(flow, recordable=True)
    step = _step(recipe, adam, lambda batch: flow.log_likelihood(batch.features, batch.position))
    recorded = RecordedSteps(step, CudaRecorder(device))
    return _milliseconds(lambda: recorded("step", batch), size, device)


def _adam(flow: ConditionalFlow, recordable: bool = False) -> Adam:
    optimizer = Adam([p for p in flow.parameters() if p.requires_grad], recordable)
    optimizer.set_rate(1e-4)
    return optimizer


def _step(recipe: Recipe, optimizer: Adam | torch.optim.Adam, log_likelihood_of):
    constants = recipe.loss.model_dump()

    def step(batch: MiniBatch) -> None:
        loss = bgad_loss(log_likelihood_of(batch), batch.is_anomaly, **constants)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def _milliseconds(function, size: Size, device: torch.device) -> float:
    """The time of a call among many in a row, as in training: the median of three rows, after a warm-up."""
    for _ in range(WARM_UP + 1):
        function()
    taken = []
    for _ in range(3):
        wait(device)
        start = time.perf_counter()
        for _ in range(size.steps):
            function()
        wait(device)
        taken.append((time.perf_counter() - start) / size.steps)
    return 1e3 * statistics.median(taken)


def _tiny(recipe: Recipe) -> Recipe:
    sampling = recipe.sampling.model_copy(update={"images": 4, "vectors": 64})
    flow = recipe.flow.model_copy(update={"blocks": 2, "position_channels": 16})
    return recipe.model_copy(update={"image_size": 64, "sampling": sampling, "flow": flow})


if __name__ == "__main__":
    main()
