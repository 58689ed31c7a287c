"""RandAugment: what is drawn and how often, and that the mask follows the defect."""

import os
import random
import subprocess
import sys

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion

from bgad.anomalies import augment
from bgad.anomalies.augment import augmentations, piecewise_affine_maps, rand_augment

GRAY, DEFECT = (90, 90, 90), (250, 20, 240)
GEOMETRIC = {"rotate": 0, "flip": 1, "transpose": 2, "optical": 3, "affine": 6}
PHOTOMETRIC = {"noise": 4, "blur": 5, "contrast": 8, "hue": 9}
DISTORTIONS = 7


def l_shape(height: int = 90, width: int = 130) -> tuple[np.ndarray, np.ndarray]:
    """A gray image with a coloured L-shaped defect, which no flip or turn maps onto itself; and its mask."""
    mask = np.zeros((height, width), dtype=bool)
    mask[20:60, 30:42] = mask[48:60, 30:70] = True
    return np.where(mask[:, :, None], np.uint8(DEFECT), np.uint8(GRAY)), mask


def applied(transform, image: np.ndarray, mask: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    transform.set_random_state(np.random.default_rng(seed), random.Random(seed))
    data = transform(force_apply=True, image=image.copy(), mask=mask.astype(np.uint8))
    return data["image"], data["mask"] > 0


def geometric() -> list:
    single = [pytest.param(augmentations()[number], id=name) for name, number in GEOMETRIC.items()]
    members = augmentations()[DISTORTIONS].transforms
    return single + [pytest.param(member, id=f"one of: {type(member).__name__}") for member in members]


@pytest.mark.parametrize("transform", geometric())
def test_mask_follows_the_defect(transform):
    image, mask = l_shape()
    changed = 0
    for seed in range(20):
        moved_image, moved_mask = applied(transform, image, mask, seed)
        assert moved_mask.shape == moved_image.shape[:2]
        red_over_green = moved_image[:, :, 0].astype(int) - moved_image[:, :, 1]
        coloured = red_over_green > (DEFECT[0] - DEFECT[1]) / 2
        # linear and nearest interpolation may differ by a pixel along the defect's edge, no further
        assert not (coloured & ~binary_dilation(moved_mask, np.ones((3, 3)))).any()
        assert not (binary_erosion(moved_mask, np.ones((3, 3)), border_value=1) & ~coloured).any()
        changed += moved_mask.shape != mask.shape or bool((moved_mask != mask).any())
    assert changed >= 10


@pytest.mark.parametrize("transform", geometric())
def test_borders_are_mirrored_not_black(transform):
    image = np.full((60, 80, 3), 90, dtype=np.uint8)
    for seed in range(20):
        assert (applied(transform, image, np.zeros((60, 80), dtype=bool), seed)[0] == 90).all()


@pytest.mark.parametrize("number", PHOTOMETRIC.values(), ids=PHOTOMETRIC)
def test_photometric_augmentations_leave_the_mask(number):
    image, mask = l_shape()
    image = image // 2 + np.random.default_rng(0).integers(0, 60, image.shape, dtype=np.uint8)
    for seed in range(10):
        other_image, same_mask = applied(augmentations()[number], image, mask, seed)
        assert (same_mask == mask).all()
        assert (other_image != image).any()


def test_flip_is_about_either_axis_or_both():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    results = {applied(augmentations()[1], image, image[:, :, 0] > 0, seed)[0].tobytes() for seed in range(40)}
    assert results == {image[::-1].tobytes(), image[:, ::-1].tobytes(), image[::-1, ::-1].tobytes()}


def test_noise_has_the_strength_of_the_old_defaults():
    image, mask = np.full((100, 100, 3), 128, dtype=np.uint8), np.zeros((100, 100), dtype=bool)
    shared, separate = augmentations()[4].transforms
    deviations = []
    for seed in range(30):
        noise = applied(shared, image, mask, seed)[0].astype(float) - 128
        assert (noise[:, :, 0] == noise[:, :, 2]).all()
        deviations.append(noise.std())
    assert 2.4 < min(deviations) < 5 and 10 < max(deviations) < 13  # 0.01 to 0.05 of 255
    variances = [(applied(separate, image, mask, seed)[0].astype(float) - 128).var() for seed in range(30)]
    assert 9 < min(variances) < 18 and 40 < max(variances) < 52  # 10 to 50


def test_each_augmentation_is_as_frequent_as_in_the_protocol():
    turned = 0.5 * 3 / 4  # a rotation by a multiple of 90 degrees is by 0 a quarter of the time
    expected = [turned, 0.5, 0.5, 1, 0.2, 0.2, 0.2, 0.2, 0.3, 0.3]
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for transform, share in zip(augmentations(), expected, strict=True):
        transform.set_random_state(np.random.default_rng(1), random.Random(1))
        times = sum((transform(image=image.copy())["image"] != image).any() for _ in range(800))
        assert abs(times / 800 - share) <= 4 * (share * (1 - share) / 800) ** 0.5


class Note:
    """Replaces an augmentation: writes its number into the image's next free pixel."""

    def __init__(self, number: int):
        self.number = number

    def set_random_state(self, *_):
        pass

    def __call__(self, image, mask):
        image[0, np.count_nonzero(image[0, :, 0]), 0] = self.number
        return {"image": image, "mask": mask}


def test_three_of_ten_equally_often_and_in_the_drawn_order(monkeypatch):
    monkeypatch.setattr(augment, "augmentations", lambda: tuple(Note(number) for number in range(1, 11)))
    rng, blank = np.random.default_rng(0), np.zeros((1, 5, 3), dtype=np.uint8)
    draws = np.array([rand_augment(blank, blank[:, :, 0] > 0, rng)[0][0, :4, 0] for _ in range(10_000)])
    assert (draws[:, 3] == 0).all()
    assert all(len(set(draw)) == 3 and min(draw) > 0 for draw in draws[:, :3].tolist())
    for place in range(3):  # 1000 expected, standard deviation 30
        assert abs(np.bincount(draws[:, place], minlength=11)[1:] - 1000).max() < 120
    first = np.random.default_rng(0).choice(10, 3, replace=False) + 1
    assert draws[0, :3].tolist() == first.tolist()


def test_chances_within_one_call_are_independent(monkeypatch):
    import albumentations as A

    flips = A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5), A.NoOp()
    monkeypatch.setattr(augment, "augmentations", lambda: flips)
    image, rng = np.arange(12, dtype=np.uint8).reshape(2, 2, 3), np.random.default_rng(0)
    both = image[::-1, ::-1].tobytes()
    times = sum(rand_augment(image, image[:, :, 0] > 0, rng)[0].tobytes() == both for _ in range(2000))
    assert 420 < times < 580  # a quarter, standard deviation 19; a shared draw would give half


def test_equal_generators_give_equal_bytes_and_nothing_global_moves():
    image, mask = l_shape()
    image.flags.writeable = mask.flags.writeable = False
    before = image.tobytes(), mask.tobytes(), random.getstate(), np.random.get_state()[1].tolist()
    one, two = np.random.default_rng(5), np.random.default_rng(5)
    results = set()
    for _ in range(40):
        first, second = rand_augment(image, mask, one), rand_augment(image, mask, two)
        assert first[0].dtype == np.uint8 and first[1].dtype == bool
        assert first[0].shape == (*first[1].shape, 3) and first[1].shape in {mask.shape, mask.T.shape}
        assert first[0].tobytes() == second[0].tobytes() and first[1].tobytes() == second[1].tobytes()
        results.add(first[0].tobytes())
    assert len(results) > 20
    assert before == (image.tobytes(), mask.tobytes(), random.getstate(), np.random.get_state()[1].tolist())


def test_piecewise_affine_by_hand():
    """On 7 x 7 pixels the grid points lie at 0, 2, 4, 6; the one at row 2, column 2 moves by a pixel to the right."""

    class OnePoint:
        def normal(self, mean, scale, shape):
            noise = np.zeros(shape)
            noise[1, 1, 1] = scale
            return noise

    map_x, map_y = piecewise_affine_maps(7, 7, 1 / 6, OnePoint())
    rows, columns = np.mgrid[:7, :7].astype(float)
    columns[1:4, 1:4] += [[0.25, 0.5, 0.25], [0.5, 1, 0.5], [0.25, 0.5, 0.25]]
    np.testing.assert_allclose(map_x, columns, atol=1e-6)
    np.testing.assert_allclose(map_y, rows, atol=1e-6)


def test_the_library_is_loaded_late_silently_and_without_network():
    code = """
import os, socket, sys
socket.getaddrinfo = socket.create_connection = lambda *a, **k: os._exit(3)
import bgad.anomalies.augment, bgad.anomalies.cutpaste
assert "albumentations" not in sys.modules
import numpy as np
for seed in range(30):
    image = np.random.default_rng(seed).integers(0, 256, (24, 36, 3), dtype=np.uint8)
    bgad.anomalies.augment.rand_augment(image, image[:, :, 0] > 200, np.random.default_rng(seed))
"""
    environment = {key: value for key, value in os.environ.items() if key != "NO_ALBUMENTATIONS_UPDATE"}
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
