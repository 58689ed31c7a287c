"""The feature cache: it returns what the backbone computed, in the index's order, and damage is found."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bgad.anomalies.synthetic import compute_synthetic
from bgad.data.images import resized_image, resized_mask
from bgad.data.layouts import ImageRecord, Index
from bgad.data.splits import Split
from bgad.errors import DataError, FileError
from bgad.features import backbone as backbones
from bgad.features import cache as features
from bgad.features.backbone import load_backbone

SIZE = 64
IMAGES = 5


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("tf_efficientnet_lite0", torch.device("cpu"))


@pytest.fixture(autouse=True, scope="module")
def batches_of_two():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbones, "BATCH", 2)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def index(data):
    """Three normal images and two with a defect, of different sizes, under ``data``."""
    rng = np.random.default_rng(0)
    folder = data / "thing"
    records = []
    for number in range(IMAGES):
        anomalous = number >= 3
        path = f"test/hole/{number}.png" if anomalous else f"train/good/{number}.png"
        mask = f"ground_truth/hole/{number}_mask.png" if anomalous else None
        shape = (70 + number, 90)
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*shape, 3), dtype=np.uint8)).save(folder / path)
        if mask:
            (folder / mask).parent.mkdir(parents=True, exist_ok=True)
            hole = np.zeros(shape, dtype=np.uint8)
            hole[10 * number : 10 * number + 25, 20:50] = 255
            Image.fromarray(hole).save(folder / mask)
        records.append(ImageRecord(path, path.split("/")[0], "hole" if anomalous else "good", mask, f"{number:064}"))
    return Index("mine", "thing", False, True, tuple(records))


@pytest.fixture(scope="module")
def computed(index, data, backbone, tmp_path_factory):
    folder = tmp_path_factory.mktemp("computed")
    features.compute(index, data, backbone, SIZE, folder)
    return folder


@pytest.fixture
def cache(computed, tmp_path):
    """A cache of the test's own, to damage."""
    return Path(shutil.copytree(computed, tmp_path / "cache"))


def test_a_cache_holds_what_the_backbone_makes_bit_for_bit(cache, index, backbone, data):
    loaded = features.load(cache)
    category = data / "thing"
    expected = backbone.features(np.stack([resized_image(category / image.path, SIZE) for image in index.images]))
    assert [level.shape for level in loaded.levels] == [(5, 256, 24), (5, 64, 40), (5, 16, 112)]
    for level, values in zip(loaded.levels, expected, strict=True):
        assert level.dtype == torch.float32
        assert torch.equal(level, values)
    # Each image has its own features, at the row of its path.
    assert len(torch.unique(loaded.levels[2].flatten(1), dim=0)) == IMAGES
    assert loaded.paths == [image.path for image in index.images]
    assert loaded.rows_of((index.images[3].path, index.images[1].path)).tolist() == [3, 1]
    assert [loaded.side(level) for level in range(3)] == [16, 8, 4]
    assert loaded.image_size == SIZE


def test_masks_are_those_of_the_images_and_empty_for_normal_ones(cache, index, data):
    masks = features.load(cache).masks
    assert masks.dtype == torch.bool
    assert not masks[:3].any()
    for row in (3, 4):
        expected = resized_mask(data / "thing" / index.images[row].mask, SIZE)
        assert np.array_equal(masks[row].numpy(), expected)
        assert 0 < expected.sum() < SIZE**2


def test_a_category_without_masks(index, data, backbone, tmp_path):
    images = tuple(ImageRecord(i.path, i.part, i.type, None, i.sha256) for i in index.images)
    bare = Index("mine", "thing", False, False, images)
    features.compute(bare, data, backbone, SIZE, tmp_path / "bare")
    assert features.load(tmp_path / "bare").masks is None


def test_the_record_says_where_the_features_are_from(cache, index, backbone):
    record = json.loads((cache / "features.json").read_text())
    assert record["backbone"] == "tf_efficientnet_lite0"
    assert record["weights_sha256"] == backbone.weights_sha256
    assert record["channels"] == [24, 40, 112]
    assert record["image_size"] == SIZE


def test_a_failure_leaves_no_part_of_a_cache(index, data, backbone, tmp_path):
    damaged = Path(shutil.copytree(data, tmp_path / "damaged"))
    (damaged / "thing" / index.images[4].path).write_bytes(b"no image")
    with pytest.raises(DataError, match=r"4\.png"):
        features.compute(index, damaged, backbone, SIZE, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def make_split(index):
    paths = [image.path for image in index.images]
    return Split("mine", "thing", "seen", 0, tuple(paths[:3]), (paths[4],), (paths[3],), (), (), (), ())


def test_a_pool_begins_with_the_pool_of_fewer_anomalies(index, data, backbone, tmp_path):
    split, pools = make_split(index), {}
    for known in (1, 2):
        folder = tmp_path / f"pool {known}"
        compute_synthetic("cutpaste", index, split, data, backbone, SIZE, known, 2, folder)
        pools[known] = features.load(folder)
    # The pool's anomaly before the further one, two images of each.
    assert pools[2].paths == 2 * [index.images[4].path] + 2 * [index.images[3].path]
    assert pools[1].paths == pools[2].paths[:2]
    assert torch.equal(pools[1].masks, pools[2].masks[:2])
    for few, many in zip(pools[1].levels, pools[2].levels, strict=True):
        assert torch.equal(few, many[:2])
    # Four different images, each with a defect.
    assert len(torch.unique(pools[2].levels[0].flatten(1), dim=0)) == 4
    assert pools[2].masks.flatten(1).any(dim=1).all()


def test_no_pool_without_masks(index, backbone, tmp_path):
    bare = replace(index, has_masks=False)
    with pytest.raises(DataError, match="mine/thing"):
        compute_synthetic("cutpaste", bare, make_split(index), tmp_path, backbone, SIZE, 1, 2, tmp_path / "pool")


def halved(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path):
    path.write_bytes(b"")


def filled_with_text(path):
    path.write_text("<html>not found</html>")


def one_row_short(path):
    np.save(path, np.load(path)[:-1])


def stripped(path):
    path.write_text("{}")


@pytest.mark.parametrize(
    ("part", "damage"),
    [
        ("level1.npy", halved),
        ("level3.npy", emptied),
        ("level2.npy", filled_with_text),
        ("level2.npy", one_row_short),
        ("level1.npy", lambda path: path.unlink()),
        ("masks.npy", halved),
        ("masks.npy", one_row_short),
        ("masks.npy", lambda path: path.unlink()),
        ("features.json", halved),
        ("features.json", stripped),
        ("features.json", lambda path: path.unlink()),
    ],
)
def test_a_damaged_cache_is_an_error_that_names_it(cache, part, damage):
    damage(cache / part)
    with pytest.raises(FileError, match=str(cache)):
        features.load(cache)


def changed(path):
    """One bit of the last value."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("part", ["level1", "level2", "level3", "masks"])
def test_a_cache_that_does_not_match_its_recorded_hash_is_an_error_that_names_it(cache, part):
    changed(cache / f"{part}.npy")
    with pytest.raises(FileError, match=str(cache)):
        features.load(cache)
