"""Reading images and masks, whole or as the backbone sees them; a file that cannot be used is named."""

import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from bgad.errors import BgadError
from bgad.io import opened

THUMBNAIL = 96  # pixels
# By content, whatever the file is called: Pillow knows more, of which one starts Ghostscript and others read other files.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF")


def read_image(path: Path) -> np.ndarray:
    """An image as (H, W, 3) uint8; gray is repeated to three channels. BgadError if it cannot be read whole.

    Transparency is dropped, CMYK is taken without a colour profile, and a picture is turned as its EXIF says, as every viewer
    and every tool to draw masks does.
    """
    return np.asarray(_opened(path, "RGB"))


def read_mask(path: Path) -> np.ndarray:
    """A mask as (H, W) bool: true where it is not 0."""
    return np.asarray(_opened(path, "L")) > 0


def resized_image(path: Path, size: int) -> np.ndarray:
    """An image resized with Lanczos to ``size`` x ``size``: (size, size, 3) uint8 (protocol: "input")."""
    return np.asarray(_opened(path, "RGB").resize((size, size), Image.Resampling.LANCZOS))


def resized_mask(path: Path, size: int) -> np.ndarray:
    """A mask resized with nearest: (size, size) bool."""
    return np.asarray(_opened(path, "L").resize((size, size), Image.Resampling.NEAREST)) > 0


def thumbnail(image: np.ndarray) -> np.ndarray:
    """An image (H, W, 3) uint8 to look at: (THUMBNAIL, THUMBNAIL, 3), Lanczos."""
    return np.asarray(Image.fromarray(image).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS))


def picture_in(file: BinaryIO, path: Path, mode: str) -> Image.Image:
    """The one picture in ``file``, in ``mode`` RGB or L; BgadError, which names ``path``, unless it is whole, of FORMATS, of 8
    bits a channel in mode RGB, and no larger than what Pillow takes for a decompression bomb: 89 megapixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.simplefilter("ignore", UserWarning)  # about odd metadata
            with Image.open(file, formats=FORMATS) as image:
                # A phone's MPO is a JPEG whose further pictures are for other purposes.
                if image.format != "MPO" and _has_another(image):
                    raise BgadError(f"{path}: holds several pictures; save the one that is meant.")
                # Gray would turn white or black; of colours Pillow itself takes the upper 8 bits without a word.
                if image.mode.startswith("F") or (mode == "RGB" and (image.mode.startswith("I") or ";16" in str(image.tile))):
                    raise BgadError(f"{path}: more than 8 bits a channel; convert it to 8 bits.")
                return ImageOps.exif_transpose(image).convert(mode)
    except BgadError:
        raise
    except UnidentifiedImageError as error:
        raise _not_whole(path, f"no {', '.join(FORMATS[:-1])} or {FORMATS[-1]}") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise BgadError(f"{path}: more pixels than 89 million, as a decompression bomb has; make it smaller.") from error
    except Exception as error:  # of many kinds, by what is damaged; all mean the same to a user
        raise _not_whole(path, " ".join(str(error).split()) or type(error).__name__) from error


def _has_another(image: Image.Image) -> bool:
    """Whether a file has a second picture; to count them all (n_frames) can take minutes."""
    try:
        image.seek(1)
    except EOFError:
        return False
    return True


def _opened(path: Path, mode: str) -> Image.Image:
    try:
        with opened(path) as file:
            return picture_in(file, path, mode)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise _not_whole(path, getattr(error, "strerror", None) or str(error)) from error


def _not_whole(path: Path, reason: str) -> BgadError:
    return BgadError(f"{path}: not a whole image ({reason}); replace the file or remove it.")
