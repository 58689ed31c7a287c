"""What each test image adds to the pixel metrics' curves: as good as the maps for any drawn images."""

import time

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, zoom

from bgad.errors import FileError
from bgad.evaluation.curves import Curves
from bgad.evaluation.metrics import aupro, auroc

POINTS = 1e-4  # 0.01 percentage points
MANY = 150


def test_set(rng, images=40, size=64, contrast=4.0):
    """Masks with regions of many sizes in three quarters of the images, and maps with skewed, smooth noise."""
    masks = np.zeros((images, size, size), dtype=bool)
    for mask in masks[images // 4 :]:
        for _ in range(rng.integers(1, 4)):
            (y, x), (height, width) = rng.integers(0, size - size // 6, 2), rng.integers(2, size // 6, 2)
            mask[y : y + height, x : x + width] = True
    noise = zoom(rng.normal(size=(images, size // 8, size // 8)), (1, 8, 8), order=1) + rng.normal(size=(images, 1, 1)) / 2
    seen = gaussian_filter(masks.astype(float), (0, 2, 2)) * rng.gamma(2, size=(images, 1, 1))
    return masks, (np.exp(noise) + contrast * seen).astype(np.float32)


test_set.__test__ = False  # type: ignore[attr-defined]


@pytest.mark.parametrize("contrast", [0.5, 2.0, 8.0, 30.0])
def test_the_metrics_are_within_a_hundredth_of_a_point_of_the_exact_ones(contrast):
    rng = np.random.default_rng(int(contrast))
    masks, maps = test_set(rng, contrast=contrast)
    curves = Curves.of(masks, maps)
    once = np.ones((1, len(masks)))
    assert curves.pixel_auroc(once) == pytest.approx([auroc(masks, maps)], abs=POINTS)
    assert curves.aupro(once) == pytest.approx([aupro(masks, maps)], abs=POINTS)


def test_those_of_drawn_images_are_within_two():
    rng = np.random.default_rng(0)
    masks, maps = test_set(rng)
    curves = Curves.of(masks, maps)
    drawn = rng.integers(0, len(masks), (20, len(masks)))
    weights = np.stack([np.bincount(of, minlength=len(masks)) for of in drawn])
    # Copies of an image are images of their own, so the exact metrics count its pixels and regions as often.
    assert curves.pixel_auroc(weights) == pytest.approx([auroc(masks[of], maps[of]) for of in drawn], abs=2 * POINTS)
    assert curves.aupro(weights) == pytest.approx([aupro(masks[of], maps[of]) for of in drawn], abs=2 * POINTS)


def test_ties_and_perfect_separation_are_exact():
    masks = np.zeros((3, 4, 4), dtype=bool)
    masks[1, :2, :2] = masks[2, 3, 3] = True
    once = np.ones((1, 3))
    for maps in (masks.astype(np.float32), np.zeros((3, 4, 4), np.float32), 1 - masks.astype(np.float32)):
        curves = Curves.of(masks, maps)
        assert curves.pixel_auroc(once) == pytest.approx([auroc(masks, maps)], abs=1e-12)
        assert curves.aupro(once) == pytest.approx([aupro(masks, maps)], abs=1e-6)


def test_counts_by_hand():
    masks = np.array([[[0, 0]], [[1, 0]]], dtype=bool)
    curves = Curves.of(masks, np.array([[[1, 2]], [[3, 2]]], dtype=np.float32))
    assert curves.normal.sum(axis=1).tolist() == [2, 1] and curves.defective.sum(axis=1).tolist() == [0, 1]
    assert curves.overlap.sum(axis=1).tolist() == [0, 1]
    assert curves.defective[1].argmax() < curves.normal.any(axis=0).argmax()  # the defective pixel is above every normal one


def test_an_image_without_a_mask_counts_for_nothing():
    masks, maps = test_set(np.random.default_rng(1), images=12)
    has_mask = np.arange(12) != 7
    curves, once = Curves.of(masks, maps, has_mask), np.ones((1, 12))
    assert not curves.normal[7].any() and not curves.defective[7].any() and not curves.overlap[7].any()
    assert curves.pixel_auroc(once) == Curves.of(masks[has_mask], maps[has_mask]).pixel_auroc(once[:, 1:])


def test_one_kind_of_pixels_has_no_metric():
    masks, maps = test_set(np.random.default_rng(2), images=8)
    curves = Curves.of(masks, maps)
    normal_only = np.arange(8)[None] < 2
    assert np.isnan(curves.pixel_auroc(normal_only)) and np.isnan(curves.aupro(normal_only))
    assert np.isnan(curves.pixel_auroc(np.zeros((1, 8))))


def test_a_file_has_the_same_values_and_bytes(tmp_path):
    curves = Curves.of(*test_set(np.random.default_rng(3), images=10))
    for name in ("a.npz", "b.npz"):
        curves.save(tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    found = Curves.load(tmp_path / "a.npz")
    for name, values in vars(curves).items():
        assert np.array_equal(getattr(found, name), values) and getattr(found, name).dtype == values.dtype


def test_no_file_and_no_masks_are_no_curves(tmp_path):
    assert Curves.load(tmp_path / "curves.npz") is None
    Curves.of(None, np.zeros((4, 8, 8), np.float32)).save(tmp_path / "curves.npz")
    assert Curves.load(tmp_path / "curves.npz") is None


def damaged_files():
    few, floats = np.zeros((2, 3), np.uint32), np.zeros((2, 3), np.float32)
    yield "shape", {"normal": few, "defective": few[:1], "overlap": floats}
    yield "type", {"normal": floats, "defective": few, "overlap": floats}
    yield "missing", {"normal": few, "defective": few}
    yield "nan", {"normal": few, "defective": few, "overlap": floats * np.nan}
    yield "pickle", {"normal": np.array([[{}]], dtype=object), "defective": few, "overlap": floats}
    yield "flat", {"normal": few[0], "defective": few[0], "overlap": floats[0]}


@pytest.mark.parametrize("values", [values for _, values in damaged_files()], ids=[name for name, _ in damaged_files()])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path, values):
    np.savez_compressed(tmp_path / "curves.npz", **values)
    with pytest.raises(FileError, match=r"curves\.npz"):
        Curves.load(tmp_path / "curves.npz")


@pytest.mark.parametrize("place", [0, 60, 200, -30, -4])
def test_a_cut_or_changed_file_is_one_too(tmp_path, place):
    path = tmp_path / "curves.npz"
    Curves.of(*test_set(np.random.default_rng(4), images=10)).save(path)
    content = bytearray(path.read_bytes())
    path.write_bytes(content[:place])
    with pytest.raises(FileError, match=r"curves\.npz"):
        Curves.load(path)


def test_a_whole_test_set_takes_less_than_a_second_and_a_few_hundred_kilobytes(tmp_path):
    masks, maps = test_set(np.random.default_rng(5), images=MANY, size=256)
    started = time.process_time()
    Curves.of(masks, maps).save(tmp_path / "curves.npz")
    assert time.process_time() - started < 1.5  # 0.3 s measured
    assert (tmp_path / "curves.npz").stat().st_size < 400_000
