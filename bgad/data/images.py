"""Reading images and masks, at full size or as the backbone sees them; an error names the file that cannot be used.

This is the one guard for images from outside: their format, size and depth.
"""

import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from bgad.errors import DataError
from bgad.io import opened

THUMBNAIL = 96  # pixels
# By content, whatever the file is called: of Pillow's other formats, one starts Ghostscript and some read other files.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
LOSSY = ("JPEG", "MPO", "WEBP")  # WebP can be lossless, but rarely is
ORIENTATION = 0x0112  # in EXIF
MOST_PIXELS = 89_478_485  # Pillow's own limit, beyond which it only warns: a gigabyte in RGB, with its copies

# Set once, since a filter set around each image would change those of other threads.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # MOST_PIXELS refuses the image
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # about odd metadata


def read_image(path: Path, bit_depth: int | None = None) -> np.ndarray:
    """An image as (H, W, 3) uint8; gray is repeated to three channels. DataError if it cannot be read completely.

    16 bits a channel are scaled by 65535, or by 2**bit_depth - 1, never by what the image itself holds. Transparency is
    dropped, CMYK is converted without a colour profile, and the EXIF orientation is applied, as in every viewer and in every
    tool for drawing masks.
    """
    return np.asarray(_decoded(path, "RGB", bit_depth))


def read_mask(path: Path, shape: tuple[int, int] | None = None) -> np.ndarray:
    """A mask as (H, W) bool: true where any channel is not 0; resized with nearest to ``shape``, if it is given.

    JPEG and WebP leave noise around edges, so in those a pixel is true where it is above half of the mask's maximum.
    """
    mask = _decoded(path, "mask")
    if shape is not None and mask.size != shape[::-1]:
        mask = mask.resize(shape[::-1], Image.Resampling.NEAREST)
    return np.asarray(mask) > 0


def resized_image(path: Path, size: int, bit_depth: int | None = None) -> np.ndarray:
    """An image resized with Lanczos to ``size`` x ``size``: (size, size, 3) uint8 (docs/protocol.md)."""
    return np.asarray(_decoded(path, "RGB", bit_depth).resize((size, size), Image.Resampling.LANCZOS))


def resized_mask(path: Path, size: int) -> np.ndarray:
    """A mask resized with nearest: (size, size) bool."""
    return np.asarray(_decoded(path, "mask").resize((size, size), Image.Resampling.NEAREST)) > 0


def has_16_bits(path: Path) -> bool:
    """Whether an image that can be read has 16 bits a channel."""
    with opened(path) as file, Image.open(file, formats=FORMATS) as image:
        return _has_16_bits(image)


def is_lossy(path: Path) -> bool:
    """Whether a mask that can be read is in a format that leaves noise."""
    with opened(path) as file, Image.open(file, formats=FORMATS) as image:
        return image.format in LOSSY


def thumbnail(image: np.ndarray) -> np.ndarray:
    """An image (H, W, 3) uint8 at (THUMBNAIL, THUMBNAIL, 3), with Lanczos."""
    return np.asarray(Image.fromarray(image).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS))


def decode(file: BinaryIO, path: Path, mode: str, bit_depth: int | None = None) -> Image.Image:
    """The image in ``file``, in ``mode`` RGB or L; a ``mask`` in L, 255 where it marks something.

    DataError, which names ``path``, unless it is complete, the only image in the file, one of FORMATS, of 8 or 16 bits a
    channel (a mask: also of 32) and of at most MOST_PIXELS pixels.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise Image.DecompressionBombError
            # A phone's MPO is a JPEG with more images for other purposes.
            if image.format != "MPO" and _has_another(image):
                raise DataError(f"{path}: holds several images; save the one you mean.")
            if image.mode.startswith("F"):
                raise DataError(f"{path}: floating-point values, whose range is unknown; convert it to 8 or 16 bits.")
            if mode == "mask":
                return _turned(_marked(_values(file, image), lossy=image.format in LOSSY), image)
            if image.mode == "I":
                raise DataError(f"{path}: neither 8 nor unsigned 16 bits a channel; convert it to 8 or 16 bits.")
            if _has_16_bits(image):
                return _turned(_in_8_bits(_values(file, image), bit_depth, path), image).convert(mode)
            return ImageOps.exif_transpose(image).convert(mode)
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise _incomplete(path, f"no {', '.join(FORMATS[:-1])} or {FORMATS[-1]}") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: more than {MOST_PIXELS // 10**6} million pixels; make it smaller.") from error
    except Exception as error:  # of many kinds, depending on the damage
        raise _incomplete(path, " ".join(str(error).split()) or type(error).__name__) from error


def _has_16_bits(image: Image.Image) -> bool:
    """Pillow has a mode for gray of 16 bits, but silently takes the upper 8 bits of colours."""
    return image.mode.startswith("I;16") or ";16" in str(getattr(image, "tile", ""))


def _values(file: BinaryIO, image: Image.Image) -> np.ndarray:
    """The values of the ``image`` that was opened from ``file``, (H, W) or (H, W, 3), at their full depth."""
    if image.mode in ("1", "L", "I") or image.mode.startswith("I;16"):
        return np.asarray(image)
    if not _has_16_bits(image):
        return np.asarray(image.convert("RGB"))
    import cv2  # reads colours of 16 bits, which Pillow has no mode for

    file.seek(0)
    values = cv2.imdecode(np.frombuffer(file.read(8 * MOST_PIXELS), np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16 or values.ndim != 3:
        raise ValueError("its 16-bit colours cannot be decoded")
    return values[..., 2::-1]  # BGR, or BGR and alpha


def _in_8_bits(values: np.ndarray, bit_depth: int | None, path: Path) -> np.ndarray:
    highest, found = 2 ** (bit_depth or 16) - 1, int(values.max())
    if found > highest:
        raise DataError(
            f"{path}: its value {found} is more than bit_depth {bit_depth} allows; correct the data set's bit_depth."
        )
    return ((values.astype(np.uint32) * 255 + highest // 2) // highest).astype(np.uint8)


def _marked(values: np.ndarray, lossy: bool) -> np.ndarray:
    """(H, W) uint8, 255 where any channel of a mask's ``values`` is not 0, or above half of their maximum."""
    highest = values if values.ndim == 2 else values.max(axis=2)
    return (highest > highest.max() / 2 if lossy else highest != 0).astype(np.uint8) * 255


def _turned(pixels: np.ndarray, image: Image.Image) -> Image.Image:
    """``pixels`` with the EXIF orientation of the ``image`` that they are from."""
    made = Image.fromarray(pixels)
    made.getexif()[ORIENTATION] = image.getexif().get(ORIENTATION, 1)
    return ImageOps.exif_transpose(made)


def _has_another(image: Image.Image) -> bool:
    """Whether a file has a second image; counting all of them (n_frames) can take minutes."""
    try:
        image.seek(1)
    except EOFError:
        return False
    return True


def _decoded(path: Path, mode: str, bit_depth: int | None = None) -> Image.Image:
    try:
        with opened(path) as file:
            return decode(file, path, mode, bit_depth)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise _incomplete(path, getattr(error, "strerror", None) or str(error)) from error


def _incomplete(path: Path, reason: str) -> DataError:
    return DataError(f"{path}: not a complete image ({reason}); replace the file or remove it.")
