"""One cell, from its split and cached features to metrics.json and what lies beside it.

    metrics.json    the figures and where they came from      history.csv   a row per meta epoch
    scores.csv      a row per test image, last epoch          model.pt      flows, and the scale and threshold of scores
    gallery/        the test images, masks and anomaly maps   likelihoods.json    histograms of l, and the boundaries

metrics.json is written last: where it is, the cell is whole.
"""

import csv
import importlib.metadata
import io
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, astuple, replace
from pathlib import Path

import torch
from torch import Tensor

from bgad import coupling
from bgad.anomalies import AnomalousImages, Entries, FreshPictures, SyntheticMaker, seen_by, with_defects
from bgad.backbones import load_backbone
from bgad.cells import Cell
from bgad.datasets import Index
from bgad.devices import describe, peak_memory_mb
from bgad.errors import BgadError
from bgad.evaluate import METRICS, Evaluation, TestSet, by_type, evaluate, likelihood_maps
from bgad.features import FeatureCache
from bgad.files import whole, write_json, write_text
from bgad.flow import ConditionalFlow
from bgad.gallery import write_gallery
from bgad.likelihoods import write_likelihoods
from bgad.metrics import best_f1_threshold
from bgad.randomness import frozen_generator, torch_generator
from bgad.sampling import NormalImages
from bgad.settings import Recipe, VectorDraws
from bgad.sources import source_sha256
from bgad.splits import Split
from bgad.train import EpochReport, build_flows, train


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
) -> dict:
    """Trains and evaluates ``cell``, writes its files to ``output`` and returns the content of metrics.json.

    ``pools`` has the cache of each kind of synthetic images (cutpaste, pseudo), for a recipe that has pools. ``root``, the
    data set's folder, is read where such images are made anew each pass: by ``workers`` processes beside the training, or
    with 0 in its turn. Every draw depends on the cell's own names.
    """
    started = time.perf_counter()
    known = split.known(cell.k)
    if known and not index.has_masks:
        raise BgadError(
            f"{cell.dataset}/{cell.category} has no masks, so its anomalies cannot be known: "
            f"k {cell.k} needs ground_truth; only k 0 (methods bgad-wo and nf) is possible."
        )
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
    tests = {"test": TestSet.of(cache, split.test(cell.k), types)}
    if cell.k == 0:
        tests["full_test"] = TestSet.of(cache, split.full_test(), types)
    maker = SyntheticMaker(index, split, root / cell.category, cache.image_size)
    entries = _entries(cell, recipe, known, cache, pools, maker, device, weights, workers) if known else list
    normal = NormalImages(cache.levels, cache.rows_of(split.train_normal))
    rng = torch_generator("train", *astuple(cell), device=device)

    history, train_seconds, evaluate_seconds, mark = [], 0.0, 0.0, time.perf_counter()
    for report in train(recipe, cell.method, flows, normal, entries, rng):
        train_seconds += time.perf_counter() - mark
        mark = time.perf_counter()
        last = report.epoch == recipe.schedule.meta_epochs - 1
        due = last or (report.epoch + 1) % recipe.schedule.evaluate_every == 0
        evaluations = _evaluate_all(flows, cache, tests, device) if due else {}
        evaluate_seconds += time.perf_counter() - mark
        history.append(_history_row(report, evaluations, train_seconds))
        say(_progress(recipe, history[-1]))
        mark = time.perf_counter()

    evaluation, test, types_known = evaluations["test"], tests["test"], {path: types[path] for path in known}
    threshold = best_f1_threshold(test.is_anomalous, evaluation.scores)
    _save_scores(output / "scores.csv", test, evaluation)
    _save_history(output / "history.csv", history)
    _save_model(output / "model.pt", cell, recipe, flows, evaluation, threshold, cache.weights_sha256)
    assert cache.thumbnails is not None  # features.load gives them
    write_gallery(output / "gallery", cache.thumbnails[test.rows].numpy(), test.masks, evaluation.maps, threshold)
    write_likelihoods(output / "likelihoods.json", recipe, flows, cache, normal.rows, types_known, test, evaluation, device)
    resident, on_gpu = peak_memory_mb(device)
    metrics = {
        "cell": asdict(cell),
        **_figures(history, ""),
        **({"full_test": _figures(history, "full_")} if cell.k == 0 else {}),
        **_released_test_command(cell, recipe, flows, cache, split, types, device),
        "by_type": by_type(test, evaluation, {*types_known.values()}),
        "counts": {
            "train_normal": len(split.train_normal),
            "train_anomalous": len(known),
            "test_normal": int((~test.is_anomalous).sum()),
            "test_anomalous": int(test.is_anomalous.sum()),
        },
        "split_sha256": split.sha256,
        "weights_sha256": cache.weights_sha256,
        "source_sha256": source_sha256("training"),
        "recipe_sha256": recipe.sha256,
        "timing": {
            "features_s": round(cache.seconds + sum(pool.seconds for pool in pools.values()), 3),
            "train_s": round(train_seconds, 3),
            "evaluate_s": round(evaluate_seconds, 3),
            "total_s": round(time.perf_counter() - started, 3),
            "peak_rss_mb": resident,
            "peak_gpu_mb": on_gpu,
        },
        "environment": _environment(device),
    }
    write_json(output / "metrics.json", metrics)
    return metrics


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
) -> Entries:
    """The anomaly entries of each pass: repeat * k real ones, and as many of each kind of the strategy."""
    kinds, count = recipe.anomalies.kinds, recipe.anomalies.repeat * len(known)
    real = _images(cache, cache.rows_of(known)).to(device).repeated(count)
    if not kinds:
        return lambda: [real]
    if recipe.anomalies.synthetic == "every_pass":
        backbone = load_backbone(recipe.backbone, device, weights)
        _same_weights(cache, backbone.weights_sha256, "the ones that are loaded now")
        passes = recipe.schedule.sub_epochs * (recipe.schedule.meta_epochs - 1)
        fresh = FreshPictures(maker, kinds, known, count, astuple(cell), passes, workers)
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
    return lambda: [
        real,
        *(pooled[kind][torch.randperm(len(pooled[kind]), generator=rng)[:count]] for kind, rng in choosers.items()),
    ]


def _same_weights(cache: FeatureCache, sha256: str, whose: str) -> None:
    if cache.weights_sha256 != sha256:
        raise BgadError(
            f"the cached features were made with other weights (SHA-256 {cache.weights_sha256[:12]}...) than {whose} "
            f"({sha256[:12]}...); delete resources/features, resources/cutpaste and resources/pseudo and run again."
        )


def _images(cache: FeatureCache, rows: Tensor) -> AnomalousImages:
    assert cache.masks is not None  # without masks no anomaly can be known
    return with_defects([level[rows] for level in cache.levels], cache.masks[rows])


def _released_test_command(cell, recipe, flows, cache, split, types, device) -> dict:
    """What the released test command would print for the last epoch: it leaves the known anomalies in the test set."""
    if cell.k == 0 or not recipe.quirks.test_command_keeps_known:
        return {}
    everything = {"test": TestSet.of(cache, split.full_test(), types)}
    return {"released_test_command": _evaluate_all(flows, cache, everything, device)["test"].figures}


def _evaluate_all(flows, cache, tests: dict[str, TestSet], device) -> dict[str, Evaluation]:
    """Each test set's evaluation; the images of all are taken through the flows once."""
    rows = torch.unique(torch.cat([test.rows for test in tests.values()]))
    likelihoods = likelihood_maps(flows, cache, rows, device)
    where = {row: place for place, row in enumerate(rows.tolist())}
    places = {name: [where[row] for row in test.rows.tolist()] for name, test in tests.items()}
    return {
        name: evaluate([level[places[name]] for level in likelihoods], test, cache.image_size) for name, test in tests.items()
    }


def _history_row(report: EpochReport, evaluations: dict[str, Evaluation], seconds: float) -> dict:
    row: dict[str, float | None] = {"epoch": report.epoch, "learning_rate": report.learning_rate}
    row |= {f"loss_{level}": loss for level, loss in enumerate(report.losses, start=1)}
    for name, prefix in (("test", ""), ("full_test", "full_")):
        if name in evaluations:
            row |= {prefix + metric: evaluations[name].figures[metric] for metric in METRICS}
    return row | {"seconds": round(seconds, 3)}


def _figures(history: list[dict], prefix: str) -> dict[str, dict]:
    """``last`` is the last epoch's value; ``best`` the maximum over the evaluations, first epoch of equals."""
    figures = {}
    for metric in METRICS:
        values = [(row[prefix + metric], row["epoch"]) for row in history if row.get(prefix + metric) is not None]
        best, epoch = max(values, key=lambda value: (value[0], -value[1]), default=(None, None))
        figures[metric] = {"last": values[-1][0] if values else None, "best": best, "best_epoch": epoch}
    return figures


def _progress(recipe: Recipe, row: dict) -> str:
    losses = " ".join(f"{row[f'loss_{level}']:.3f}" for level in (1, 2, 3))
    named = [f"{metric} {row[metric]:.2f}" for metric in METRICS if row.get(metric) is not None]
    line = f"epoch {row['epoch'] + 1}/{recipe.schedule.meta_epochs}  loss {losses}  {row['seconds']:.1f} s"
    return "  ".join([line, *named])


def _save_history(path: Path, history: list[dict]) -> None:
    columns = list(dict.fromkeys(key for row in history[-1:] + history for key in row))
    _save_csv(path, columns, ([row.get(column) for column in columns] for row in history))


def _save_scores(path: Path, test: TestSet, evaluation: Evaluation) -> None:
    rows = zip(test.paths, test.types, test.is_anomalous.astype(int), evaluation.scores, strict=True)
    _save_csv(path, ["path", "type", "anomalous", "score"], ((p, t, a, f"{s:.7g}") for p, t, a, s in rows))


def _save_csv(path: Path, columns: list[str], rows) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _save_model(path, cell, recipe, flows: list[ConditionalFlow], evaluation, threshold: float, weights: str) -> None:
    """Tensors and plain values alone, so that it loads with weights_only."""
    content = {
        "cell": asdict(cell),
        "recipe": recipe.model_dump(),
        "weights_sha256": weights,
        "flows": [{key: value.cpu() for key, value in flow.state_dict().items()} for flow in flows],
        "scale": asdict(evaluation.scale),
        "threshold": threshold,
    }
    # Through memory: given a file, torch writes its (temporary) name into it, and no two runs would be the same.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with whole(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def _environment(device: torch.device) -> dict:
    versions = {name: importlib.metadata.version(name) for name in ("torch", "timm", "FrEIA")}
    blocks = coupling.describe() if device.type == "cpu" else "plain"
    return {"python": platform.python_version(), **versions, **describe(device), "blocks": blocks, "git_commit": _git_commit()}


def _git_commit() -> str | None:
    """The commit that this source tree is at, marked when it has changes; None outside a checkout."""
    here = Path(__file__).parent
    try:
        found = [
            subprocess.run(["git", "-C", here, *command], capture_output=True, text=True, check=True).stdout.strip()
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "--", "."])
        ]
    except (OSError, subprocess.CalledProcessError):
        return None
    return found[0] + ("+changes" if found[1] else "")
