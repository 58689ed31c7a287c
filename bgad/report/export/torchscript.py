"""A cell's model as one TorchScript file, which PyTorch runs without this package: backbone, flows and scale in one module.

It takes pictures (N, 3, S, S) float32, RGB in 0..1, already resized to the recipe's S x S pixels (Lanczos, no crop, as
bgad.data.images does), and gives anomaly maps (N, S, S) and scores (N,) on the scale of the cell's test set. What a user of the file
has to know is inside, as JSON under the name ABOUT. PyTorch calls the format deprecated, but it is the one that Python and
C++ programs load with PyTorch alone.
"""

import io
import json
import math
import warnings
import zipfile
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from bgad.config.cells import Cell
from bgad.data.images import resized_image
from bgad.errors import BgadError
from bgad.features.backbone import Backbone
from bgad.io import read_json, whole
from bgad.methods.predict import Model, load_model, predict
from bgad.model.flow import ConditionalFlow
from bgad.model.scoring import image_scores, scored
from bgad.report.collect import scores_of

ABOUT = "bgad.json"
TOLERANCE = 1e-4  # between scores, whose scale goes from about 0 to the number of levels, 3
CHECKED = 8  # test images, spread over scores.csv
HASHES = ("recipe_sha256", "source_sha256", "split_sha256", "weights_sha256")


def export_model(folder: Path, root: Path, output: Path, weights: Path | None = None) -> tuple[int, float, float]:
    """Writes the model of the cell in ``folder`` to ``output`` and checks the file on some of the cell's test images.

    ``root`` is the data set's folder, ``weights`` a local file of the backbone's. Returns how many images were compared, and
    the largest difference of a score from ``bgad.methods.predict`` and from scores.csv. BgadError, and no file, if one is more than
    TOLERANCE.
    """
    cpu, cell = torch.device("cpu"), Cell.of_folder(folder)
    if not (root / cell.category).is_dir():
        raise BgadError(
            f"{root / cell.category}: not a folder, where the cell's test images should be; set datasets.{cell.dataset}.path."
        )
    paths, recorded = _some_scores(folder)
    images = [root / cell.category / path for path in paths]
    model = load_model(folder, cpu, weights)
    predicted = np.array([one.score for one in predict(images, folder, cpu, weights)])
    size = model.recipe.image_size
    archive = _archive(ScoringModule(model), size, _about(cell, folder, model))
    with whole(output) as temporary:
        temporary.write_bytes(archive)
        found = _scores_of_file(temporary, images, size)
        differences = np.abs(found - predicted).max().item(), np.abs(found - recorded).max().item()
        for difference, other in zip(differences, ("`bgad predict`", folder / "scores.csv"), strict=True):
            if not difference <= TOLERANCE:  # nan too
                raise BgadError(
                    f"{output}: not written, since its scores differ by up to {difference:.2g} from those of {other}, where "
                    f"{TOLERANCE:g} is allowed; bring back the test images of the cell, or run it again on this machine."
                )
    return len(images), *differences


class ScoringModule(nn.Module):
    """From pictures (N, 3, S, S) to anomaly maps (N, S, S) and scores (N,), in PyTorch's operations alone."""

    def __init__(self, model: Model):
        super().__init__()
        self.normalized_features = NormalizedFeatures(model.backbone)
        self.flows = nn.ModuleList(model.flows)
        self.size, self.scale = model.recipe.image_size, model.scale
        self.eval().requires_grad_(False)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        levels = self.normalized_features(pictures)
        flows = cast(list[ConditionalFlow], list(self.flows))
        likelihoods = [flow.log_likelihood_maps(level) for flow, level in zip(flows, levels, strict=True)]
        maps, _ = scored(likelihoods, self.size, self.scale)
        return maps, image_scores(maps)


class NormalizedFeatures(nn.Module):
    """Each level's vectors (N, h * w, C) of pictures in 0..1, as Backbone.features makes them of pixels in 0..255."""

    mean: Tensor  # (3, 1, 1)
    std: Tensor  # (3, 1, 1)

    def __init__(self, backbone: Backbone):
        super().__init__()
        self.network = backbone.network
        self.register_buffer("mean", backbone.mean)
        self.register_buffer("std", backbone.std)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        return [level.flatten(2).transpose(1, 2) for level in self.network((pictures - self.mean) / self.std)]


def _about(cell: Cell, folder: Path, model: Model) -> dict:
    metrics = read_json(folder / "metrics.json")
    if not isinstance(metrics, dict) or not isinstance(environment := metrics.get("environment", {}), dict):
        raise BgadError(f"{folder / 'metrics.json'}: not the record of a cell; run the cell again.")
    return {
        "cell": vars(cell),
        "input": "(N, 3, image_size, image_size) float32, RGB in 0..1",
        "resize": "to image_size x image_size with PIL's Lanczos, no crop",
        "image_size": model.recipe.image_size,
        "output": "anomaly maps (N, image_size, image_size), scores (N,); higher is more anomalous",
        "threshold": None if math.isnan(model.threshold) else float(model.threshold),
        "threshold_is": "the one of best F1 on the cell's own test set; a score at or above it is anomalous",
        "backbone": model.recipe.backbone,
        **{name: metrics.get(name) for name in HASHES},
        "git_commit": environment.get("git_commit"),
        "torch": torch.__version__,
    }


def _archive(module: nn.Module, size: int, about: dict) -> bytes:
    buffer = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of the format's deprecation
        # Two pictures, since with one a batch might be taken for a constant; the check, which is ours, has another number.
        traced = torch.jit.trace(module, torch.zeros(2, 3, size, size), check_trace=False)
        torch.jit.save(traced, buffer, _extra_files={ABOUT: json.dumps(about, indent=1, allow_nan=False)})
    return _without_source_places(buffer)


def _without_source_places(buffer: io.BytesIO) -> bytes:
    """The archive without the source lines that PyTorch keeps for messages: they name this machine's folders."""
    smaller = io.BytesIO()
    with zipfile.ZipFile(buffer) as archive, zipfile.ZipFile(smaller, "w") as kept:
        for entry in archive.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                kept.writestr(zipfile.ZipInfo(entry.filename), archive.read(entry))
    return smaller.getvalue()


def _some_scores(folder: Path) -> tuple[list[str], np.ndarray]:
    """CHECKED test images, spread evenly over the normal and the anomalous, with the scores that training left of them."""
    rows = scores_of(folder)
    chosen = [rows[place] for place in np.unique(np.linspace(0, len(rows) - 1, CHECKED).round().astype(int))]
    return [row.path for row in chosen], np.array([row.score for row in chosen])


def _scores_of_file(path: Path, images: list[Path], size: int) -> np.ndarray:
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        loaded = torch.jit.load(path, map_location="cpu")
        pixels = torch.from_numpy(np.stack([resized_image(image, size) for image in images]))
        return loaded(pixels.permute(0, 3, 1, 2) / 255)[1].double().numpy()
