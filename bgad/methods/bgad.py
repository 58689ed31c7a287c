"""One cell of the paper's methods, from its split and cached features to metrics.json and what lies beside it."""

import time
from collections.abc import Callable
from dataclasses import asdict, astuple, replace
from pathlib import Path

import torch
from torch import Tensor

from bgad.anomalies.synthetic import AnomalousImages, Entries, FreshPictures, SyntheticMaker, seen_by, with_defects
from bgad.config.cells import Cell
from bgad.config.provenance import method_sha256
from bgad.config.settings import Recipe, VectorDraws
from bgad.data.layouts import Index
from bgad.data.splits import Split
from bgad.errors import BgadError
from bgad.evaluation.evaluate import (
    IMAGES_AT_ONCE,
    METRICS,
    Evaluation,
    TestSet,
    check_finite,
    evaluate,
    likelihood_maps,
    test_sets,
    together,
)
from bgad.evaluation.likelihoods import write_likelihoods
from bgad.evaluation.metrics import best_f1_threshold
from bgad.evaluation.outputs import (
    environment,
    figures_row,
    metrics,
    save_gallery,
    save_history,
    save_model,
    save_scores,
    timing,
)
from bgad.features.backbone import load_backbone
from bgad.features.cache import FeatureCache
from bgad.io import write_json
from bgad.model.cpu import coupling
from bgad.randomness import frozen_generator, torch_generator
from bgad.training.checkpoint import Checkpoint
from bgad.training.sampling import NormalImages
from bgad.training.train import EpochReport, build_flows, train


def run_cell(
    cell: Cell,
    recipe: Recipe,
    index: Index,
    split: Split,
    cache: FeatureCache,
    pools: dict[str, FeatureCache],
    root: Path,
    device: torch.device,
    output: Path,
    weights: Path | None = None,
    say: Callable[[str], None] = print,
    workers: int = 0,
    images_at_once: int | None = None,
    checkpoint: Checkpoint | None = None,
) -> dict:
    """Trains and evaluates ``cell``, writes its files to ``output`` and returns the content of metrics.json.

    ``pools`` has the cache of each kind of synthetic images (cutpaste, pseudo), for a recipe that has pools. ``root``, the
    data set's folder, is read where such images are made anew each pass: by ``workers`` processes beside the training, or
    with 0 in its turn. Every draw depends on the cell's own names. Evaluations take ``images_at_once``, by default
    IMAGES_AT_ONCE, and go on with fewer where memory does not suffice. A training that was stopped goes on from its
    ``checkpoint``, which is made anew at the end of the meta epoch in which it is due, and stays.
    """
    started = time.perf_counter()
    images_at_once = images_at_once or IMAGES_AT_ONCE
    known = split.known(cell.k)
    if known and not index.has_masks:
        raise BgadError(
            f"{cell.dataset}/{cell.category} has no masks, so its anomalies cannot be known: "
            f"k {cell.k} needs ground_truth; only k 0 (methods bgad-wo and nf) is possible."
        )
    saved = (checkpoint.load() if checkpoint else None) or {}
    sides = [cache.side(level) for level in range(len(cache.levels))]
    channels = [level.shape[2] for level in cache.levels]
    # The initial network depends on the seed alone, so that methods and k are compared from the same start.
    flows = build_flows(
        recipe,
        channels,
        sides,
        torch_generator("flow", cell.dataset, cell.category, cell.seed),
        frozen_generator("rotation", cell.dataset, cell.category, cell.seed),
    )
    flows = [flow.to(device) for flow in flows]
    # Once and for all uses: with tf_efficientnet_b6 at 256 pixels an image has 1.2 MB of features.
    cache = replace(cache, levels=[level.to(device) for level in cache.levels])
    types = {image.path: image.type for image in index.images}
    tests = test_sets(cache, index, split, cell.k)
    maker = SyntheticMaker(index, split, root / cell.category, cache.image_size)
    passes = recipe.schedule.sub_epochs * saved["training"]["epoch"] if saved else 0  # the first meta epoch has no anomalies
    entries = _entries(cell, recipe, known, cache, pools, maker, device, weights, workers, passes) if known else list
    normal = NormalImages(cache.levels, cache.rows_of(split.train_normal))
    rng = torch_generator("train", *astuple(cell), device=device)

    history, train_seconds, evaluate_seconds = saved.get("history", []), saved.get("train", 0.0), saved.get("evaluate", 0.0)
    if saved:
        say(f"going on after epoch {len(history)}, from checkpoint.pt")
    mark = time.perf_counter()
    for report in train(recipe, cell.method, flows, normal, entries, rng, saved.get("training")):
        train_seconds += time.perf_counter() - mark
        mark = time.perf_counter()
        last = report.epoch == recipe.schedule.meta_epochs - 1
        due = last or (report.epoch + 1) % recipe.schedule.evaluate_every == 0
        evaluations = _evaluate_all(flows, cache, tests, device, report.epoch, images_at_once) if due else {}
        evaluate_seconds += time.perf_counter() - mark
        history.append(_history_row(report, evaluations, train_seconds))
        say(_progress(recipe, history[-1]))
        mark = time.perf_counter()
        if checkpoint and checkpoint.is_due and not last:
            checkpoint.save(
                {"training": report.state(), "history": history, "train": train_seconds, "evaluate": evaluate_seconds}
            )

    evaluation, test, types_known = evaluations["test"], tests["test"], {path: types[path] for path in known}
    threshold = best_f1_threshold(test.is_anomalous, evaluation.scores)
    save_scores(output, test, evaluation)
    save_history(output, history)
    scale = evaluation.scale
    assert scale is not None  # of flows it never is
    states = [{key: value.cpu() for key, value in flow.state_dict().items()} for flow in flows]
    save_model(output, cell, recipe, cache, threshold, {"flows": states, "scale": asdict(scale)})
    save_gallery(output, cache, test, evaluation, threshold)
    of_test = (types_known, test, evaluation, device, images_at_once)
    write_likelihoods(output / "likelihoods.json", recipe, flows, cache, normal.rows, *of_test)
    features_seconds = cache.seconds + sum(pool.seconds for pool in pools.values())
    blocks = coupling.describe() if device.type == "cpu" else "plain"
    values = {
        **metrics(cell, recipe, split, cache, history, test, evaluation, types_known),
        **_released_test_command(cell, recipe, flows, cache, split, types, device, report.epoch, images_at_once),
        "source_sha256": method_sha256(cell.method),
        "timing": timing(started, features_seconds, train_seconds, evaluate_seconds, device),
        "environment": environment(device) | {"blocks": blocks},
    }
    write_json(output / "metrics.json", values)
    return values


def _entries(
    cell: Cell,
    recipe: Recipe,
    known: tuple[str, ...],
    cache: FeatureCache,
    pools: dict[str, FeatureCache],
    maker: SyntheticMaker,
    device: torch.device,
    weights: Path | None,
    workers: int,
    passes: int,
) -> Entries:
    """The anomaly entries of each pass: repeat * k real ones, and as many of each kind of the strategy.

    The first ``passes`` have been trained on already.
    """
    kinds, count = recipe.anomalies.kinds, recipe.anomalies.repeat * len(known)
    real = _images(cache, cache.rows_of(known)).to(device).repeated(count)
    if not kinds:
        return lambda: [real]
    if recipe.anomalies.synthetic == "every_pass":
        backbone = load_backbone(recipe.backbone, device, weights)
        _same_weights(cache, backbone.weights_sha256, "the ones that are loaded now")
        of_all = range(passes, recipe.schedule.sub_epochs * (recipe.schedule.meta_epochs - 1))
        fresh = FreshPictures(maker, kinds, known, count, astuple(cell), of_all, workers)
        return lambda: [real, *(seen_by(backbone, pictures) for pictures in fresh())]

    missing = [kind for kind in kinds if kind not in pools]
    if missing:
        raise BgadError(f"recipe {cell.recipe} draws from a pool of {missing[0]} images: name its folder with --{missing[0]}.")
    for kind in kinds:
        _same_weights(cache, pools[kind].weights_sha256, f"those of its pool of {kind} images")
    of_known = {kind: [row for row, path in enumerate(pools[kind].paths) if path in set(known)] for kind in kinds}
    pooled = {kind: _images(pools[kind], torch.tensor(rows)).to(device) for kind, rows in of_known.items()}
    if isinstance(recipe.sampling, VectorDraws):
        return lambda: [real, *pooled.values()]  # which draws its share of vectors from the whole pool
    choosers = {kind: torch_generator(kind, *astuple(cell)) for kind in kinds}

    def chosen() -> list[Tensor]:
        return [torch.randperm(len(pooled[kind]), generator=rng)[:count] for kind, rng in choosers.items()]

    for _ in range(passes):
        chosen()
    return lambda: [real, *(pooled[kind][rows] for kind, rows in zip(kinds, chosen(), strict=True))]


def _same_weights(cache: FeatureCache, sha256: str, whose: str) -> None:
    if cache.weights_sha256 != sha256:
        raise BgadError(
            f"the cached features were made with other weights (SHA-256 {cache.weights_sha256[:12]}...) than {whose} "
            f"({sha256[:12]}...); delete resources/features, resources/cutpaste and resources/pseudo and run again."
        )


def _images(cache: FeatureCache, rows: Tensor) -> AnomalousImages:
    assert cache.masks is not None  # without masks no anomaly can be known
    return with_defects([level[rows] for level in cache.levels], cache.masks[rows])


def _released_test_command(cell, recipe, flows, cache, split, types, device, epoch: int, images_at_once: int) -> dict:
    """What the released test command would print for the last epoch: it leaves the known anomalies in the test set."""
    if cell.k == 0 or not recipe.quirks.test_command_keeps_known:
        return {}
    everything = {"test": TestSet.of(cache, split.full_test(), types)}
    return {"released_test_command": _evaluate_all(flows, cache, everything, device, epoch, images_at_once)["test"].figures}


def _evaluate_all(flows, cache, tests: dict[str, TestSet], device, epoch: int, images_at_once: int) -> dict[str, Evaluation]:
    """Each test set's evaluation after meta epoch ``epoch``; the images of all are taken through the flows once."""
    rows, places = together(tests)
    likelihoods = likelihood_maps(flows, cache, rows, device, images_at_once)
    # Here also the meta epoch's last step is found out, of which no loss tells any more.
    check_finite(likelihoods, f"training diverged: after meta epoch {epoch}", "lower schedule.learning_rate in the recipe")
    return {
        name: evaluate([level[places[name]] for level in likelihoods], test, cache.image_size, images_at_once)
        for name, test in tests.items()
    }


def _history_row(report: EpochReport, evaluations: dict[str, Evaluation], seconds: float) -> dict:
    row: dict[str, float | None] = {"epoch": report.epoch, "learning_rate": report.learning_rate}
    row |= {f"loss_{level}": loss for level, loss in enumerate(report.losses, start=1)}
    return row | figures_row(evaluations) | {"seconds": round(seconds, 3)}


def _progress(recipe: Recipe, row: dict) -> str:
    losses = " ".join(f"{row[f'loss_{level}']:.3f}" for level in (1, 2, 3))
    named = [f"{metric} {row[metric]:.2f}" for metric in METRICS if row.get(metric) is not None]
    line = f"epoch {row['epoch'] + 1}/{recipe.schedule.meta_epochs}  loss {losses}  {row['seconds']:.1f} s"
    return "  ".join([line, *named])
