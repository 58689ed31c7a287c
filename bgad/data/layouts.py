"""Data sets in MVTec AD's layout (or BTAD's): which categories and types a folder has, and the index of a category.

    <root>/<category>/train/good/*, test/good/*, test/<type>/*, ground_truth/<type>/<stem>_mask.png     mvtec
    <root>/<category>/train/ok/*,   test/ok/*,   test/ko/*,     ground_truth/ko/<stem>.png or .bmp       btad

The index is the door: every image and mask is opened once, and what later steps could trip over is said here.
"""

import hashlib
import os
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from bgad.config.names import check_file_name, check_names
from bgad.config.paths import check_inside
from bgad.config.settings import Dataset
from bgad.data import mini
from bgad.data.download import presets
from bgad.data.images import read_image, read_mask
from bgad.errors import BgadError
from bgad.io import read_json, write_json

IMAGE_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}
NORMAL = {"mvtec": "good", "btad": "ok"}
MASK_SUFFIX = {"mvtec": "_mask", "btad": ""}


@dataclass(frozen=True)
class ImageRecord:
    """One image: ``path`` and ``mask`` relative to the category's folder, ``part`` train or test, ``type`` good or a defect.

    ``empty_mask``: the mask marks no pixel. Such an image is anomalous as an image, none of its pixels is, and it can never
    be known in training, since there is nothing to cut out of it.
    """

    path: str
    part: str
    type: str
    mask: str | None
    sha256: str
    empty_mask: bool = False  # also where an index was written before there was this field

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
        try:
            index = TypeAdapter(cls).validate_python(read_json(path))
        except ValidationError as error:
            raise BgadError(f"{path}: not the index of a category; delete it and run again, or check the path.") from error
        named = [name for image in index.images for name in (image.path, image.mask) if name is not None]
        check_inside([index.category, *named], path)
        return index


def catalogue(name: str, dataset: Dataset) -> dict[str, dict[str, int]]:
    """Each category of a data set with its defect types and their numbers of images: {category: {type: images}}.

    Counted in its folders where it is, else from what is known of it.
    """
    if dataset.path is not None:
        return _catalogue_of_folders(name, Path(dataset.path), dataset.layout)
    if name == "mini":
        return {category: dict.fromkeys(types, mini.COUNTS["test", "defect"]) for category, types in mini.CATEGORIES.items()}
    preset = presets.dataset(name)
    if preset is None:
        raise BgadError(f"config: data set {name} has no download; set datasets.{name}.path to the folder that holds it.")
    return {
        category: {kind: number for kind, number in counts.items() if kind not in ("train", "good")}
        for category, counts in preset.counts.items()
    }


def build_index(name: str, category: str, root: Path, dataset: Dataset) -> Index:
    """The index of ``root / category``. BgadError names the first file that cannot be used, and why.

    An empty mask cannot be used, but for as many as a published data set is known to have (presets.yaml, ``empty_masks``).
    """
    check_names([category], "a category", root)
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
    preset = presets.dataset(name)
    allowed = preset.empty_masks.get(category, 0) if preset else 0
    records, empty = [], []
    for path, part, kind in listed:
        record = _record(folder, path, part, kind, has_masks, dataset.layout)
        records.append(record)
        if record.mask and record.empty_mask:
            empty.append(folder / record.mask)
        if len(empty) > allowed > 0:
            raise BgadError(
                f"{empty[0]}: the first of more than the {allowed} empty masks that {name}/{category} is known to have; "
                "take the published copy, or mend the masks."
            )
        if len(empty) > allowed:
            raise BgadError(f"{empty[0]}: the mask is empty, so the defect of {path} has no place; mend it or remove both.")
    textures = set(dataset.textures) | (set(preset.textures) if preset else mini.TEXTURES if name == "mini" else set())
    return Index(name, category, category in textures, has_masks, tuple(records))


def image_files(folder: Path, part: str, only: str | None = None) -> list[Path]:
    """The image files of ``folder / part``, one level of type folders down, in the order of their names on any system.

    BgadError for a type or a file whose name cannot be used. Links are followed: a data set may be made of them.
    """
    types = [only] if only else sorted(entry.name for entry in _folders(folder / part))
    check_names(types, "a defect type", folder / part)
    found = [
        Path(entry.path)
        for kind in types
        if (folder / part / kind).is_dir()
        for entry in sorted(os.scandir(folder / part / kind), key=lambda entry: entry.name)
        if Path(entry.name).suffix.lower() in IMAGE_ENDINGS and not entry.name.startswith(".")
    ]
    for path in found:
        check_file_name(path)
    return found


def _record(folder: Path, path: Path, part: str, kind: str, has_masks: bool, layout: str) -> ImageRecord:
    image = read_image(path)
    mask, empty = None, False
    if kind != "good" and has_masks:
        mask = _mask_of(folder, path, kind, layout)
        pixels = read_mask(mask)
        if pixels.shape != image.shape[:2]:
            raise BgadError(
                f"{mask}: the mask is {pixels.shape[1]}x{pixels.shape[0]} pixels and its image {path} "
                f"{image.shape[1]}x{image.shape[0]}; make the two the same size."
            )
        empty = not pixels.any()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    relative = mask.relative_to(folder).as_posix() if mask else None
    return ImageRecord(path.relative_to(folder).as_posix(), part, kind, relative, digest, empty)


def _mask_of(folder: Path, image: Path, kind: str, layout: str) -> Path:
    stem = folder / "ground_truth" / kind / (image.stem + MASK_SUFFIX[layout])
    for ending in (".png", ".bmp"):
        if (found := stem.with_name(stem.name + ending)).is_file():
            return found
    raise BgadError(
        f"{image}: its mask {stem.name}.png is missing in {stem.parent}; add it, "
        "or remove ground_truth to use the category without masks (k0 and image AUROC only)."
    )


def _catalogue_of_folders(name: str, root: Path, layout: str) -> dict[str, dict[str, int]]:
    if not root.is_dir():
        raise BgadError(f"config: datasets.{name}.path is {root}, which is not a folder; correct the path.")
    normal = NORMAL[layout]
    categories = [entry.name for entry in _folders(root) if (root / entry.name / "train" / normal).is_dir()]
    if not categories:
        raise BgadError(
            f"config: datasets.{name}.path is {root}, where no folder has train/{normal}; give the folder above the categories."
        )
    check_names(categories, "a category", root)
    tested = {category: [path.parent.name for path in image_files(root / category, "test")] for category in categories}
    return {category: dict(Counter(kind for kind in kinds if kind != normal)) for category, kinds in tested.items()}


def _folders(path: Path) -> list[os.DirEntry]:
    if not path.is_dir():
        return []
    inside = (entry for entry in os.scandir(path) if not entry.name.startswith(".") and Path(entry.path).is_dir())
    return sorted(inside, key=lambda entry: entry.name)
