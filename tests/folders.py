"""Small data sets on disk, in MVTec AD's layout or BTAD's; no two images are the same."""

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 12, 16
TYPES = {"cut": 3, "hole": 2}


def make_category(root: Path, category="bottle", layout="mvtec", types=None, train=4, good=3, masks=True) -> Path:
    """A category with ``train`` and ``good`` normal images and ``types[kind]`` anomalous ones; returns its folder."""
    folder = root / category
    normal = "good" if layout == "mvtec" else "ok"
    names = [f"train/{normal}/{number:03}.png" for number in range(train)]
    names += [f"test/{normal}/{number:03}.png" for number in range(good)]
    for kind, count in (TYPES if types is None else types).items():
        names += [f"test/{kind}/{number:03}.png" for number in range(count)]
        if masks:
            for number in range(count):
                write_mask(mask_of(folder, kind, number, layout))
    for name in names:
        write_image(folder / name, text=f"{category}/{name}")
    return folder


def mask_of(folder: Path, kind: str, number: int, layout="mvtec") -> Path:
    return folder / "ground_truth" / kind / f"{number:03}{'_mask' if layout == 'mvtec' else ''}.png"


def write_image(path: Path, text: str, height=HEIGHT, width=WIDTH) -> None:
    """Noise that depends only on ``text``."""
    seed = int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)
    save(path, np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def write_mask(path: Path, height=HEIGHT, width=WIDTH, value=255) -> None:
    """A square of ``value`` on 0."""
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[2:5, 3:6] = value
    save(path, mask)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def truncate(path: Path, keep=0.6) -> None:
    """Cuts off the end of a file, as an interrupted copy does."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
