"""Reading images and masks: three channels of 8 bits, and the resizing of docs/protocol.md."""

import math
import re

import numpy as np
import pytest
from folders import HEIGHT, WIDTH, save, write_image
from PIL import Image

from bgad.data.images import read_image, read_mask, resized_image, resized_mask
from bgad.errors import DataError


def test_images_become_three_channels_of_8_bits(tmp_path):
    gray = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH)
    save(tmp_path / "gray.png", gray)
    assert np.array_equal(read_image(tmp_path / "gray.png"), np.stack([gray] * 3, axis=2))

    color = np.dstack([gray, gray[::-1], 255 - gray])
    save(tmp_path / "color.bmp", color)
    assert np.array_equal(read_image(tmp_path / "color.bmp"), color)
    save(tmp_path / "alpha.png", np.dstack([color, gray]))
    assert np.array_equal(read_image(tmp_path / "alpha.png"), color)
    Image.fromarray(gray > 100).save(tmp_path / "bits.png")
    assert np.array_equal(read_image(tmp_path / "bits.png")[..., 1], np.where(gray > 100, 255, 0))


def test_every_value_but_0_in_a_mask_is_defect(tmp_path):
    gray = np.array([[0, 1, 128], [255, 0, 7]], dtype=np.uint8)
    save(tmp_path / "gray.png", gray)
    save(tmp_path / "deep.png", gray.astype(np.uint16) * 257)
    Image.fromarray(gray > 0).save(tmp_path / "bits.png")
    save(tmp_path / "color.png", np.stack([gray] * 3, axis=2))
    for name in ("gray", "deep", "bits", "color"):
        assert read_mask(tmp_path / f"{name}.png").tolist() == [[False, True, True], [True, False, True]], name


def test_a_resized_mask_takes_the_nearest_pixel(tmp_path):
    # Halved: the centre of a new pixel lies between four old ones, and the lower right one is taken.
    mask = np.zeros((4, 4), dtype=np.uint8)
    mask[1, 3] = mask[2, 0] = 255
    save(tmp_path / "mask.png", mask)
    assert resized_mask(tmp_path / "mask.png", 2).tolist() == [[False, True], [False, False]]
    # Doubled: each pixel twice in each direction.
    assert np.array_equal(resized_mask(tmp_path / "mask.png", 8), np.kron(mask > 0, np.ones((2, 2), dtype=bool)))


@pytest.mark.parametrize("size", [6, 32])
def test_a_resized_image_is_lanczos_of_each_channel(tmp_path, size):
    write_image(tmp_path / "image.png", "noise", height=20, width=20)
    pixels = np.asarray(Image.open(tmp_path / "image.png")).astype(float)

    # Lanczos with a = 3, widened when shrinking, one direction after the other, each rounded to 8 bits.
    weights = np.zeros((size, 20))
    scale = 20 / size
    width = max(scale, 1)
    for new in range(size):
        for old in range(20):
            distance = (old + 0.5 - (new + 0.5) * scale) / width
            if abs(distance) < 3:
                x = math.pi * distance
                weights[new, old] = 1 if x == 0 else 3 * math.sin(x) * math.sin(x / 3) / x**2
    weights /= weights.sum(axis=1, keepdims=True)
    across = np.clip(np.rint(np.einsum("nx,yxc->ync", weights, pixels)), 0, 255)
    expected = np.clip(np.rint(np.einsum("ny,yxc->nxc", weights, across)), 0, 255)

    resized = resized_image(tmp_path / "image.png", size)
    assert resized.dtype == np.uint8
    assert resized.shape == (size, size, 3)
    # Pillow's weights are fixed-point, so a value can be rounded the other way.
    assert np.abs(resized - expected).max() <= 1
    assert np.mean(resized != expected) < 0.02


def test_the_readers_name_a_file_that_is_not_there(tmp_path):
    for reader in (read_image, read_mask):
        with pytest.raises(DataError, match=re.escape(str(tmp_path / "no.png"))):
            reader(tmp_path / "no.png")
