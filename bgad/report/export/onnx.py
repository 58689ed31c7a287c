"""A cell's model as one ONNX file, which onnxruntime runs without this package: backbone, flows and scale together.

Input ``images``: (N, 3, S, S) float32, RGB in 0..1, resized to the recipe's S x S pixels with Lanczos and no crop, as
bgad.data.images does; the file normalises them itself. Outputs, float32: ``anomaly_maps`` (N, S, S) and ``scores`` (N,), higher
is more anomalous, on the scale of the cell's test set. The file's metadata describes this as JSON under the key ABOUT, with
the threshold and the hashes.
"""

import importlib.util
import json
import math
import warnings
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from bgad.config.cells import Cell
from bgad.config.origins import located
from bgad.data.images import resized_image
from bgad.errors import ConfigError, DataError, FileError, TrainingError
from bgad.io import read_json, whole
from bgad.methods.predict import Model, load_model
from bgad.model.flow import ConditionalFlow
from bgad.model.scoring import image_scores, scored
from bgad.report.collect import scores_of

ABOUT = "bgad"
NEEDS = ("onnx", "onnxruntime", "onnxscript")
TOLERANCE = 1e-4  # between scores, which lie between about 0 and the number of levels, 3
CHECKED = 8  # test images, spread over scores.csv
HASHES = (
    "recipe_sha256",
    "source_sha256",
    "split_sha256",
    "index_sha256",
    "features_sha256",
    "weights_sha256",
)  # from metrics.json


def export_model(folder: Path, root: Path, output: Path, weights: Path | None = None) -> tuple[int, float, float]:
    """Writes the model of the cell in ``folder`` to ``output`` and checks the file on some of the cell's test images.

    ``root`` is the data set's folder, ``weights`` a local weight file of the backbone. Returns the number of images compared,
    the largest difference between the file's scores and ``bgad predict``'s, and between those and scores.csv's. If a difference
    is above TOLERANCE, TrainingError and no file; ConfigError without the extra ``export`` or for a method without flows.
    """
    if missing := [name for name in NEEDS if importlib.util.find_spec(name) is None]:
        raise ConfigError(f"bgad export model: needs the package {missing[0]}; run pip install '.[export]' in the project.")
    (cell, _), model = located(folder), load_model(folder, torch.device("cpu"), weights)
    if model.scale is None:
        raise ConfigError(f"{folder}: {cell.method} has no flows; only cells of bgad, bgad-wo and nf can be exported.")
    if not (root / cell.category).is_dir():
        raise DataError(
            f"{root / cell.category}: not a folder of test images; set datasets.{cell.dataset}.path, or run bgad train on the "
            "folder's new place."
        )
    rows = scores_of(folder)
    rows = [rows[place] for place in np.unique(np.linspace(0, len(rows) - 1, CHECKED).round().astype(int))]
    images = [root / cell.category / row.path for row in rows]
    predicted = np.array([model.predict(image).score for image in images])
    from_recorded = _difference(predicted, np.array([row.score for row in rows]), output, f"{folder / 'scores.csv'}")
    content = _serialized(model, _about(cell, folder, model))
    with whole(output) as temporary:
        temporary.write_bytes(content)
        from_predict = _difference(_scores_of_file(temporary, images, model), predicted, output, "`bgad predict`")
    return len(images), from_predict, from_recorded


class ScoringModule(nn.Module):
    """From images (N, 3, S, S) in 0..1 to anomaly maps (N, S, S) and scores (N,)."""

    mean: Tensor  # (3, 1, 1)
    std: Tensor  # (3, 1, 1)

    def __init__(self, model: Model):
        super().__init__()
        self.network, self.flows = model.backbone.network, nn.ModuleList(model.model)
        self.register_buffer("mean", model.backbone.mean)
        self.register_buffer("std", model.backbone.std)
        self.size, self.scale = model.recipe.image_size, model.scale
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        levels = self.network((images - self.mean) / self.std)
        vectors = [level.flatten(2).transpose(1, 2) for level in levels]
        flows = cast(list[ConditionalFlow], list(self.flows))
        likelihoods = [flow.log_likelihood_maps(level) for flow, level in zip(flows, vectors, strict=True)]
        maps, _ = scored(likelihoods, self.size, self.scale)
        return maps, image_scores(maps)


def _serialized(model: Model, about: dict) -> bytes:
    size = model.recipe.image_size
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about itself
        program = torch.onnx.export(
            ScoringModule(model),
            (torch.zeros(2, 3, size, size),),  # two, because one would be taken for a constant
            dynamo=True,
            dynamic_shapes={"images": {0: torch.export.Dim("N", min=1)}},
            input_names=["images"],
            output_names=["anomaly_maps", "scores"],
            verbose=False,
        )
    assert program is not None
    graph = program.model.graph
    parts: list[Any] = [program.model, graph, *graph.all_nodes(), *graph.initializers.values()]
    for part in parts:
        part.metadata_props.clear()  # source lines, with the folders of this machine
    program.model.metadata_props[ABOUT] = json.dumps(about, indent=1, allow_nan=False)
    return program.model_proto.SerializeToString()


def _about(cell: Cell, folder: Path, model: Model) -> dict:
    metrics = read_json(folder / "metrics.json")
    if not isinstance(metrics, dict) or not isinstance(environment := metrics.get("environment", {}), dict):
        raise FileError(f"{folder / 'metrics.json'}: not the record of a cell; run the cell again.")
    return {
        "cell": vars(cell),
        "input": "images (N, 3, image_size, image_size) float32, RGB in 0..1, not normalised",
        "resize": "to image_size x image_size with PIL's Lanczos, no crop",
        "image_size": model.recipe.image_size,
        "output": "anomaly_maps (N, image_size, image_size), scores (N,), float32; higher is more anomalous",
        "threshold": None if math.isnan(model.threshold) else float(model.threshold),
        "threshold_is": "of best F1 on the cell's own test set; a score at or above it is anomalous",
        "backbone": model.recipe.backbone,
        **{name: metrics.get(name) for name in HASHES},
        "git_commit": environment.get("git_commit"),
    }


def _scores_of_file(path: Path, images: list[Path], model: Model) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    pixels = np.stack([resized_image(image, model.recipe.image_size, model.bit_depth) for image in images])
    return session.run(["scores"], {"images": pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255})[0]


def _difference(found: np.ndarray, expected: np.ndarray, output: Path, source: str) -> float:
    difference = np.abs(found - expected).max().item()
    if not difference <= TOLERANCE:  # nan too
        raise TrainingError(
            f"{output}: not written: scores differ by up to {difference:.2g} from those of {source}, more than {TOLERANCE:g}; "
            "restore the cell's test images, or run the cell again on this machine."
        )
    return difference
