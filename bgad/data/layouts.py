"""Data sets in MVTec AD's layout (or BTAD's): which categories and defect types a folder has, and the index of a category.

    <root>/<category>/train/good/*, test/good/*, test/<type>/*, ground_truth/<type>/<stem>_mask.png     mvtec
    <root>/<category>/train/ok/*,   test/ok/*,   test/ko/*,     ground_truth/ko/<stem>.png or .bmp       btad

The index is the door: it opens every image and mask once, and reports what later steps could trip over.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from bgad.config.names import check_file_name, check_names
from bgad.config.paths import check_inside
from bgad.config.settings import Dataset
from bgad.data import mini
from bgad.data.download import presets
from bgad.data.images import read_image, read_mask
from bgad.errors import ConfigError, DataError, FileError
from bgad.io import read_json, write_json

IMAGE_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}
NORMAL = {"mvtec": "good", "btad": "ok"}  # folder of the normal images, by layout
MASK_SUFFIX = {"mvtec": "_mask", "btad": ""}


@dataclass(frozen=True)
class ImageRecord:
    """One image: ``path`` and ``mask`` relative to the category's folder, ``part`` train or test, ``type`` good or a defect.

    ``empty_mask``: the mask marks no pixel. The image counts as anomalous, none of its pixels does, and it is never known in
    training, since there is nothing to cut out of it.
    """

    path: str
    part: str
    type: str
    mask: str | None
    sha256: str
    empty_mask: bool = False  # not in older indexes

    @property
    def anomalous(self) -> bool:
        return self.type != "good"


@dataclass(frozen=True)
class Index:
    """The images of a category by path, and whether its anomalies have masks."""

    dataset: str
    category: str
    texture: bool
    has_masks: bool
    images: tuple[ImageRecord, ...]

    def save(self, path: Path) -> None:
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> "Index":
        """FileError if the file is missing or damaged, or names something outside its folder."""
        try:
            index = TypeAdapter(cls).validate_python(read_json(path))
        except ValidationError as error:
            raise FileError(f"{path}: not the index of a category; delete it and run again, or check the path.") from error
        named = [name for image in index.images for name in (image.path, image.mask) if name is not None]
        check_inside([index.category, *named], path)
        return index


def catalogue(name: str, dataset: Dataset) -> Mapping[str, dict[str, int]]:
    """Each category of a data set with the number of images of each defect type: {category: {type: images}}.

    Counted in the data set's folders if it is on disk, else taken from its preset. ConfigError if neither exists.
    """
    if dataset.path is not None:
        return _Categories(name, Path(dataset.path), dataset.layout)
    if name == "mini":
        return {category: dict.fromkeys(types, mini.COUNTS["test", "defect"]) for category, types in mini.CATEGORIES.items()}
    preset = presets.dataset(name)
    if preset is None:
        raise ConfigError(f"config: data set {name} has no download; set datasets.{name}.path to the folder that holds it.")
    return {
        category: {kind: number for kind, number in counts.items() if kind not in ("train", "good")}
        for category, counts in preset.counts.items()
    }


def build_index(name: str, category: str, root: Path, dataset: Dataset, threads: int = 1) -> Index:
    """The index of ``root / category``, checked in ``threads`` threads (-1: one for each core).

    DataError names the first file that cannot be used, and why. An empty mask cannot, unless the published data set is known to
    have as many (presets.yaml, ``empty_masks``).
    """
    from joblib import Parallel, delayed  # planning a workflow does without

    check_names([category], "a category", root)
    folder, normal = root / category, NORMAL[dataset.layout]
    listed = [
        (path, part, "good" if path.parent.name == normal else path.parent.name)
        for part in ("train", "test")
        for path in image_files(folder, part, only=normal if part == "train" else None)
    ]
    if not any(part == "train" for _, part, _ in listed):
        raise DataError(f"{folder / 'train' / normal}: no images found; check datasets.{name}.path and layout.")
    has_masks = (folder / "ground_truth").is_dir()
    # Threads suffice: decoding and hashing release Python's lock.
    check = Parallel(threads, backend="threading")
    checked = check(delayed(_record)(folder, *image, has_masks, dataset.layout) for image in listed)

    preset = presets.dataset(name)
    allowed = preset.empty_masks.get(category, 0) if preset else 0
    records: list[ImageRecord] = []
    for (path, _, _), record in zip(listed, checked, strict=True):
        if isinstance(record, DataError):
            raise record
        records.append(record)
        if record.empty_mask and sum(image.empty_mask for image in records) > allowed:
            known = f" beyond the {allowed} that {name}/{category} is known to have" if allowed else ""
            raise DataError(
                f"{folder / str(record.mask)}: the mask of {path} is empty{known}; mark the defect, or remove both files."
            )
    textures = set(dataset.textures) | (set(preset.textures) if preset else mini.TEXTURES if name == "mini" else set())
    return Index(name, category, category in textures, has_masks, tuple(records))


def image_files(folder: Path, part: str, only: str | None = None) -> list[Path]:
    """The image files in ``folder / part / <type>``, sorted by name in the same way on any system.

    DataError for a type or a file whose name cannot be used. Links are followed: a data set may consist of them.
    """
    types = [only] if only else sorted(entry.name for entry in _folders(folder / part))
    check_names(types, "a defect type", folder / part)
    found = [
        Path(entry.path)
        for kind in types
        if (folder / part / kind).is_dir()
        for entry in sorted(os.scandir(folder / part / kind), key=lambda entry: entry.name)
        if is_image(entry.name)
    ]
    for path in found:
        check_file_name(path)
    return found


def is_image(name: str) -> bool:
    """Whether a file of that name is an image: by its ending, and not hidden."""
    return Path(name).suffix.lower() in IMAGE_ENDINGS and not name.startswith(".")


def _record(folder: Path, path: Path, part: str, kind: str, has_masks: bool, layout: str) -> ImageRecord | DataError:
    """The image's record, or why it cannot be used: returned, so that the first such file in order can be named."""
    mask, empty = None, False
    try:
        image = read_image(path)
        if kind != "good" and has_masks:
            mask = _mask_of(folder, path, kind, layout)
            pixels = read_mask(mask)
            if pixels.shape != image.shape[:2]:
                sizes = [f"{width}x{height}" for height, width in (pixels.shape, image.shape[:2])]
                raise DataError(f"{mask}: the mask is {sizes[0]} pixels and its image {path} {sizes[1]}; make them equal.")
            empty = not pixels.any()
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except DataError as error:
        return error
    relative = mask.relative_to(folder).as_posix() if mask else None
    return ImageRecord(path.relative_to(folder).as_posix(), part, kind, relative, digest, empty)


def _mask_of(folder: Path, image: Path, kind: str, layout: str) -> Path:
    stem = folder / "ground_truth" / kind / (image.stem + MASK_SUFFIX[layout])
    for ending in (".png", ".bmp"):
        if (found := stem.with_name(stem.name + ending)).is_file():
            return found
    raise DataError(
        f"{image}: its mask {stem.name}.png is missing in {stem.parent}; add it, "
        "or remove ground_truth to use the category without masks (k0 and image AUROC only)."
    )


class _Categories(Mapping[str, dict[str, int]]):
    """The categories in a data set's folders. One is read when it is asked for, and no other: each answers for itself."""

    def __init__(self, name: str, root: Path, layout: str):
        if not root.is_dir():
            raise ConfigError(f"config: datasets.{name}.path is {root}, which is not a folder; correct the path.")
        self._root, self._normal = root, NORMAL[layout]
        self._read: dict[str, dict[str, int]] = {}
        self._names = [entry.name for entry in _folders(root) if (root / entry.name / "train" / self._normal).is_dir()]
        if not self._names:
            raise ConfigError(
                f"config: datasets.{name}.path is {root}, where no folder has train/{self._normal}; "
                "give the folder above the categories."
            )

    def __getitem__(self, category: str) -> dict[str, int]:
        if category not in self._names:
            raise KeyError(category)
        if category not in self._read:
            check_names([category], "a category", self._root)
            kinds = [path.parent.name for path in image_files(self._root / category, "test")]
            self._read[category] = dict(Counter(kind for kind in kinds if kind != self._normal))
        return self._read[category]

    def __iter__(self) -> Iterator[str]:
        check_names(self._names, "a category", self._root)
        return iter(self._names)

    def __contains__(self, category: object) -> bool:
        return category in self._names

    def __len__(self) -> int:
        return len(self._names)


def _folders(path: Path) -> list[os.DirEntry]:
    if not path.is_dir():
        return []
    inside = (entry for entry in os.scandir(path) if not entry.name.startswith(".") and Path(entry.path).is_dir())
    return sorted(inside, key=lambda entry: entry.name)
