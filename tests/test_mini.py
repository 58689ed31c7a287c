"""The embedded data set: its layout, exact masks, equal bytes for equal names, and no half-written folder."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from bgad.data import mini
from bgad.errors import ConfigError, FileError
from bgad.randomness import numpy_generator

SMALL = {("train", "good"): 2, ("test", "good"): 1, ("test", "defect"): 1}
EVERY_TYPE = [(category, kind) for category, kinds in mini.CATEGORIES.items() for kind in kinds]


@pytest.fixture(scope="module")
def brick(tmp_path_factory) -> Path:
    """A complete category."""
    root = tmp_path_factory.mktemp("mini")
    mini.generate(root, "brick")
    return root / "brick"


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.png")
    }


def test_every_category_has_what_the_demo_splits_need():
    assert set(mini.CATEGORIES) == {"brick", "grass", "gravel", "coins"}
    assert set(mini.CATEGORIES) - mini.TEXTURES == {"coins"}
    for kinds in mini.CATEGORIES.values():
        assert len(kinds) >= 3
        assert "scratch" in kinds  # hard-scratch is a split of all four
    assert mini.COUNTS["test", "defect"] >= 14  # ten known, and some of every type left to test


def test_a_category_has_the_layout_and_counts_of_mvtec_ad(brick):
    expected = {f"train/good/{index:03}.png" for index in range(40)} | {f"test/good/{index:03}.png" for index in range(12)}
    for kind in ("crumble", "scratch", "stain"):
        expected |= {f"test/{kind}/{index:03}.png" for index in range(16)}
        expected |= {f"ground_truth/{kind}/{index:03}_mask.png" for index in range(16)}
    assert {path.relative_to(brick).as_posix() for path in brick.rglob("*") if path.is_file()} == expected
    assert [path.name for path in brick.parent.iterdir()] == ["brick"]


def test_files_are_rgb_images_and_masks_of_0_and_255(brick):
    for index in range(16):
        with Image.open(brick / f"test/scratch/{index:03}.png") as image:
            assert (image.mode, image.size) == ("RGB", (256, 256))
        with Image.open(brick / f"ground_truth/scratch/{index:03}_mask.png") as mask:
            assert (mask.mode, mask.size) == ("L", (256, 256))
            assert set(np.unique(np.asarray(mask))) == {0, 255}


def test_files_hold_the_painted_image_and_its_mask(brick):
    _, image, mask = mini._image("brick", 0, "test", "stain", 5)
    stored = np.asarray(Image.open(brick / "test/stain/005.png"))
    assert (stored == image[:, :, None]).all()
    assert ((np.asarray(Image.open(brick / "ground_truth/stain/005_mask.png")) == 255) == mask).all()


def test_no_two_images_are_the_same(brick):
    images = [digest for path, digest in digests(brick).items() if not path.startswith("ground_truth")]
    assert len(set(images)) == len(images) == 100


@pytest.mark.parametrize(("category", "kind"), EVERY_TYPE)
def test_masks_are_exactly_where_the_defect_shows(category, kind):
    for index in range(4):
        clean, defective, mask = mini._image(category, 0, "test", kind, index)
        difference = np.abs(defective.astype(int) - clean.astype(int))
        assert not difference[~mask].any()
        assert (difference[mask] >= mini.VISIBLE).mean() > 0.8
        assert 0.002 < mask.mean() < 0.08


def test_a_coins_defects_are_on_the_coin_and_a_chip_takes_from_its_edge():
    for kind in mini.CATEGORIES["coins"]:
        for index in range(3):
            _, _, mask = mini._image("coins", 0, "test", kind, index)
            scene = mini._coin(numpy_generator("mini", "coins", 0, "test", kind, index), index)
            coin = ndimage.binary_dilation(scene.object > 0, iterations=4) if kind == "chip" else scene.object > 0
            assert not (mask & ~coin).any()
    for index in range(4):
        _, defective, mask = mini._image("coins", 0, "test", "chip", index)
        ring = ndimage.binary_dilation(mask, iterations=4) & ~mask
        # Around a chip there is bright coin and ground as dark as the filled chip.
        assert np.percentile(defective[ring], 5) < defective[mask].mean() + 15 < np.percentile(defective[ring], 90)


def test_the_coins_are_the_24_of_the_photograph_and_training_shows_them_all():
    ground, outlines = mini._coins()
    assert len(outlines) == 24 <= mini.COUNTS["train", "good"]
    photograph = mini._photograph("coins.png")
    for outline in outlines:
        # A coin is brighter than the ground that replaces it, and coins are round: their box is filled to about pi / 4.
        assert photograph[outline].mean() > ground[outline].mean() + 0.1
        rows, columns = (np.ptp(places) + 1 for places in np.nonzero(outline))
        assert 0.7 < outline.sum() / (rows * columns) < 0.9


def test_a_view_takes_the_pixels_it_says():
    ramp = np.add.outer(1000.0 * np.arange(400), np.arange(400))
    level = mini._view(ramp, (200, 150), 0.5, 0.0, order=1)
    assert level[0, 0] == pytest.approx(1000 * (200 - 127.5 / 2) + (150 - 127.5 / 2))
    assert level[255, 0] == pytest.approx(1000 * (200 + 127.5 / 2) + (150 - 127.5 / 2))
    quarter = mini._view(ramp, (200, 150), 0.5, np.pi / 2, order=1)  # rows of the view run along the photograph's columns
    assert quarter[255, 0] == pytest.approx(1000 * (200 + 127.5 / 2) + (150 + 127.5 / 2))


@pytest.mark.parametrize("category", mini.CATEGORIES)
def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_images(category, tmp_path, monkeypatch):
    monkeypatch.setattr(mini, "COUNTS", SMALL)
    for name, seed in (("first", 0), ("second", 0), ("third", 1)):
        mini.generate(tmp_path / name, category, seed)
    first, second, third = (digests(tmp_path / name) for name in ("first", "second", "third"))
    assert first == second
    assert first.keys() == third.keys()
    assert not set(first.values()) & set(third.values())


def test_an_image_depends_only_on_its_names(tmp_path, monkeypatch, brick):
    monkeypatch.setattr(mini, "COUNTS", SMALL)
    mini.generate(tmp_path, "brick")
    whole = digests(brick)
    assert all(whole[path] == digest for path, digest in digests(tmp_path / "brick").items())


def test_making_it_again_replaces_an_older_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(mini, "COUNTS", SMALL)
    stale = tmp_path / "gravel" / "test" / "good" / "999.png"
    stale.parent.mkdir(parents=True)
    stale.touch()
    mini.generate(tmp_path, "gravel")
    assert not stale.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["gravel"]


def test_a_failure_leaves_nothing_half_written_and_the_old_folder_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(mini, "COUNTS", SMALL)
    mini.generate(tmp_path, "grass")
    before = digests(tmp_path)
    real = mini._image

    def failing(category, seed, part, kind, index):
        if kind == "foreign":
            raise KeyboardInterrupt
        return real(category, seed, part, kind, index)

    monkeypatch.setattr(mini, "_image", failing)
    with pytest.raises(KeyboardInterrupt):
        mini.generate(tmp_path, "grass", seed=1)
    assert digests(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["grass"]


def test_an_unknown_category_is_refused_and_the_known_ones_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"bottle.*brick, grass, gravel, coins"):
        mini.generate(tmp_path, "bottle")
    assert not list(tmp_path.iterdir())


def test_a_missing_photograph_is_an_error_and_is_not_fetched():
    with pytest.raises(FileError, match=r"kidney\.tif: .*scikit-image"):
        mini._photograph("kidney.tif")
