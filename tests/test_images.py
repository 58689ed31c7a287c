"""Reading images and masks: three channels of 8 bits, and the resizing of docs/protocol.md."""

import math
import re

import cv2
import numpy as np
import pytest
from folders import HEIGHT, WIDTH, save, write_image
from PIL import Image

from bgad.data.images import has_16_bits, read_image, read_mask, resized_image, resized_mask
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
    Image.fromarray(np.array([[0, 1, 1], [1, 0, 2]], dtype=np.uint8)).convert("P").save(tmp_path / "palette.png")
    dark = np.zeros((2, 3, 3), dtype=np.uint8)
    dark[..., 0] = gray == 128  # red of value 1 would be 0 in gray
    dark[..., 2] = 4 * ((gray > 0) & (gray != 128))
    save(tmp_path / "dark.png", dark)
    for name in ("gray", "deep", "bits", "color", "palette", "dark"):
        assert read_mask(tmp_path / f"{name}.png").tolist() == [[False, True, True], [True, False, True]], name


@pytest.mark.parametrize("options", [{"format": "JPEG"}, {"format": "WEBP", "lossless": True}])
def test_noise_below_half_of_the_maximum_of_a_jpeg_is_no_defect(tmp_path, options):
    mask = np.zeros((16, 16), dtype=np.uint8)
    mask[:8, :8], mask[8:, 8:] = 200, 20
    Image.fromarray(mask).save(tmp_path / "mask", **options)
    assert np.array_equal(read_mask(tmp_path / "mask"), mask > 100)
    save(tmp_path / "mask.png", mask)
    assert np.array_equal(read_mask(tmp_path / "mask.png"), mask > 0)


def test_webp_is_read(tmp_path):
    pixels = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    Image.fromarray(pixels).save(tmp_path / "image.webp", lossless=True)
    assert np.array_equal(read_image(tmp_path / "image.webp"), pixels)


DEEP = np.array([[0, 1, 300], [4095, 4000, 256]], dtype=np.uint16)


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("colours", [1, 3, 4])
def test_16_bits_are_scaled_by_a_fixed_range(tmp_path, ending, colours):
    path = tmp_path / f"deep.{ending}"
    values = DEEP if colours == 1 else np.stack([DEEP, DEEP[::-1], DEEP[:, ::-1], DEEP][:colours], axis=2)
    cv2.imwrite(str(path), values if colours == 1 else values[..., [2, 1, 0, 3][:colours]])
    expected = np.stack([DEEP] * 3, axis=2) if colours == 1 else values[..., :3]
    for bit_depth, highest in ((None, 65535), (16, 65535), (14, 16383), (12, 4095)):
        assert np.array_equal(read_image(path, bit_depth), np.rint(expected * (255 / highest)))
    with pytest.raises(DataError, match=rf"{re.escape(str(path))}.*4095.*bit_depth 10"):
        read_image(path, 10)
    assert np.array_equal(read_mask(path), values > 0 if colours == 1 else (values[..., :3] > 0).any(axis=2))
    assert has_16_bits(path)


def test_16_bits_are_turned_as_their_exif_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees, clockwise
    Image.fromarray(DEEP).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "turned.png", 12)[..., 0], np.rot90(np.rint(DEEP * (255 / 4095)), -1))
    assert read_mask(tmp_path / "turned.png").shape == (3, 2)


def test_a_mask_is_resized_to_its_images_shape(tmp_path):
    save(tmp_path / "mask.png", np.array([[0, 255]], dtype=np.uint8))
    assert read_mask(tmp_path / "mask.png", (2, 4)).tolist() == [[False, False, True, True]] * 2


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
