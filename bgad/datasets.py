"""Data sets in MVTec AD's layout (or BTAD's): which categories and types a folder has, and the index of a category.

    <root>/<category>/train/good/*, test/good/*, test/<type>/*, ground_truth/<type>/<stem>_mask.png     mvtec
    <root>/<category>/train/ok/*,   test/ok/*,   test/ko/*,     ground_truth/ko/<stem>.png or .bmp       btad

The index is the door: every image and mask is opened once, and what later steps could trip over is said here.
"""

import hashlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from bgad import mini, presets
from bgad.errors import BgadError
from bgad.files import read_json, write_json
from bgad.images import read_image, read_mask
from bgad.settings import Dataset

IMAGE_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}
NORMAL = {"mvtec": "good", "btad": "ok"}
MASK_SUFFIX = {"mvtec": "_mask", "btad": ""}


@dataclass(frozen=True)
class ImageRecord:
    """One image: ``path`` and ``mask`` relative to the category's folder, ``part`` train or test, ``type`` good or a defect."""

    path: str
    part: str
    type: str
    mask: str | None
    sha256: str

    @property
    def anomalous(self) -> bool:
        return self.type != "good"


@dataclass(frozen=True)
class Index:
    """What a category holds, in the order of the paths: the images, and whether its anomalies have masks."""

    dataset: str
    category: str
    texture: bool
    has_masks: bool
    images: tuple[ImageRecord, ...]

    def save(self, path: Path) -> None:
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> "Index":
        values = read_json(path)
        try:
            return cls(**{**values, "images": tuple(ImageRecord(**image) for image in values["images"])})
        except (KeyError, TypeError) as error:
            raise BgadError(f"{path}: not the index of a category; delete it and run again, or check the path.") from error


def catalogue(name: str, dataset: Dataset) -> dict[str, tuple[str, ...]]:
    """Each category of a data set with its defect types: from its folders where it is, else from what is known of it."""
    if dataset.path is not None:
        return _catalogue_of_folders(name, dataset)
    if name == "mini":
        return dict(mini.CATEGORIES)
    preset = presets.dataset(name)
    if preset is None:
        raise BgadError(f"config: data set {name} has no download; set datasets.{name}.path to the folder that holds it.")
    return {
        category: tuple(kind for kind in counts if kind not in ("train", "good")) for category, counts in preset.counts.items()
    }


def build_index(name: str, category: str, root: Path, dataset: Dataset) -> Index:
    """The index of ``root / category``. BgadError names the first file that cannot be used, and why."""
    folder = root / category
    normal = NORMAL[dataset.layout]
    listed = [
        (path, part, "good" if path.parent.name == normal else path.parent.name)
        for part in ("train", "test")
        for path in image_files(folder, part, only=normal if part == "train" else None)
    ]
    if not any(part == "train" for _, part, _ in listed):
        raise BgadError(f"{folder / 'train' / normal}: no images found; check datasets.{name}.path and layout.")
    has_masks = (folder / "ground_truth").is_dir()
    records = tuple(_record(folder, *image, has_masks, dataset.layout) for image in listed)
    preset = presets.dataset(name)
    textures = set(dataset.textures) | (set(preset.textures) if preset else mini.TEXTURES if name == "mini" else set())
    return Index(name, category, category in textures, has_masks, records)


def image_files(folder: Path, part: str, only: str | None = None) -> list[Path]:
    """The image files of ``folder / part``, one level of type folders down, in the order of their names on any system."""
    types = [only] if only else sorted(entry.name for entry in _folders(folder / part))
    return [
        Path(entry.path)
        for kind in types
        if (folder / part / kind).is_dir()
        for entry in sorted(os.scandir(folder / part / kind), key=lambda entry: entry.name)
        if Path(entry.name).suffix.lower() in IMAGE_ENDINGS and not entry.name.startswith(".")
    ]


def _record(folder: Path, path: Path, part: str, kind: str, has_masks: bool, layout: str) -> ImageRecord:
    image = read_image(path)
    mask = None
    if kind != "good" and has_masks:
        mask = _mask_of(folder, path, kind, layout)
        pixels = read_mask(mask)
        if pixels.shape != image.shape[:2]:
            raise BgadError(
                f"{mask}: the mask is {pixels.shape[1]}x{pixels.shape[0]} pixels and its image {path} "
                f"{image.shape[1]}x{image.shape[0]}; make the two the same size."
            )
        if not pixels.any():
            raise BgadError(f"{mask}: the mask is empty, so the defect of {path} has no place; mend it or remove both.")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    relative = mask and mask.relative_to(folder).as_posix()
    return ImageRecord(path.relative_to(folder).as_posix(), part, kind, relative, digest)


def _mask_of(folder: Path, image: Path, kind: str, layout: str) -> Path:
    stem = folder / "ground_truth" / kind / (image.stem + MASK_SUFFIX[layout])
    for ending in (".png", ".bmp"):
        if (found := stem.with_name(stem.name + ending)).is_file():
            return found
    raise BgadError(
        f"{image}: its mask {stem.name}.png is missing in {stem.parent}; add it, "
        "or remove ground_truth to use the category without masks (k0 and image AUROC only)."
    )


def _catalogue_of_folders(name: str, dataset: Dataset) -> dict[str, tuple[str, ...]]:
    root = Path(dataset.path)
    if not root.is_dir():
        raise BgadError(f"config: datasets.{name}.path is {root}, which is not a folder; correct the path.")
    normal = NORMAL[dataset.layout]
    categories = [entry.name for entry in _folders(root) if (root / entry.name / "train" / normal).is_dir()]
    if not categories:
        raise BgadError(
            f"config: datasets.{name}.path is {root}, where no folder has train/{normal}; give the folder above the categories."
        )
    return {
        category: tuple(entry.name for entry in _folders(root / category / "test") if entry.name != normal)
        for category in categories
    }


def _folders(path: Path) -> list[os.DirEntry]:
    if not path.is_dir():
        return []
    return sorted((e for e in os.scandir(path) if e.is_dir() and not e.name.startswith(".")), key=lambda entry: entry.name)
