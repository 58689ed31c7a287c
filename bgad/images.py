"""Reading images and masks, whole or as the backbone sees them; a file that cannot be used is named."""

from pathlib import Path

import numpy as np
from PIL import Image

from bgad.errors import BgadError

THUMBNAIL = 96  # pixels


def read_image(path: Path) -> np.ndarray:
    """An image as (H, W, 3) uint8; gray is repeated to three channels. BgadError if it cannot be read whole."""
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


def _opened(path: Path, mode: str) -> Image.Image:
    try:
        with Image.open(path) as image:
            if mode == "RGB" and image.mode.startswith(("I", "F")):  # which would turn white
                raise BgadError(f"{path}: more than 8 bits a channel; convert it to 8 bits.")
            return image.convert(mode)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BgadError(f"{path}: not a whole image ({error}); replace the file or remove it.") from error
