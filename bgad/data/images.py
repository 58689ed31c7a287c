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
FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
MOST_PIXELS = 89_478_485  # Pillow's own limit, beyond which it only warns: a gigabyte in RGB, with its copies

# Set once, since a filter set around each image would change those of other threads.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # MOST_PIXELS refuses the image
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # about odd metadata


def read_image(path: Path) -> np.ndarray:
    """An image as (H, W, 3) uint8; gray is repeated to three channels. DataError if it cannot be read completely.

    Transparency is dropped, CMYK is converted without a colour profile, and the EXIF orientation is applied, as in every viewer
    and in every tool for drawing masks.
    """
    return np.asarray(_decoded(path, "RGB"))


def read_mask(path: Path) -> np.ndarray:
    """A mask as (H, W) bool: true where it is not 0."""
    return np.asarray(_decoded(path, "L")) > 0


def resized_image(path: Path, size: int) -> np.ndarray:
    """An image resized with Lanczos to ``size`` x ``size``: (size, size, 3) uint8 (docs/protocol.md)."""
    return np.asarray(_decoded(path, "RGB").resize((size, size), Image.Resampling.LANCZOS))


def resized_mask(path: Path, size: int) -> np.ndarray:
    """A mask resized with nearest: (size, size) bool."""
    return np.asarray(_decoded(path, "L").resize((size, size), Image.Resampling.NEAREST)) > 0


def thumbnail(image: np.ndarray) -> np.ndarray:
    """An image (H, W, 3) uint8 at (THUMBNAIL, THUMBNAIL, 3), with Lanczos."""
    return np.asarray(Image.fromarray(image).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS))


def decode(file: BinaryIO, path: Path, mode: str) -> Image.Image:
    """The image in ``file``, in ``mode`` RGB or L.

    DataError, which names ``path``, unless it is complete, the only image in the file, one of FORMATS, of 8 bits a channel (a
    mask: also of 16 bits) and of at most MOST_PIXELS pixels.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise Image.DecompressionBombError
            # A phone's MPO is a JPEG with more images for other purposes.
            if image.format != "MPO" and _has_another(image):
                raise DataError(f"{path}: holds several images; save the one you mean.")
            # 16-bit gray would turn white or black; of 16-bit colours Pillow silently takes the upper 8 bits.
            if image.mode.startswith("F") or (mode == "RGB" and (image.mode.startswith("I") or ";16" in str(image.tile))):
                raise DataError(f"{path}: more than 8 bits a channel; convert it to 8 bits.")
            return ImageOps.exif_transpose(image).convert(mode)
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise _incomplete(path, f"no {', '.join(FORMATS[:-1])} or {FORMATS[-1]}") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: more than {MOST_PIXELS // 10**6} million pixels; make it smaller.") from error
    except Exception as error:  # of many kinds, depending on the damage
        raise _incomplete(path, " ".join(str(error).split()) or type(error).__name__) from error


def _has_another(image: Image.Image) -> bool:
    """Whether a file has a second image; counting all of them (n_frames) can take minutes."""
    try:
        image.seek(1)
    except EOFError:
        return False
    return True


def _decoded(path: Path, mode: str) -> Image.Image:
    try:
        with opened(path) as file:
            return decode(file, path, mode)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise _incomplete(path, getattr(error, "strerror", None) or str(error)) from error


def _incomplete(path: Path, reason: str) -> DataError:
    return DataError(f"{path}: not a complete image ({reason}); replace the file or remove it.")
