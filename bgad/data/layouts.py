"""Data sets in MVTec AD's layout (or BTAD's): which categories and defect types a folder has, and the index of a category.

    <root>/<category>/train/good/*, test/good/*, test/<type>/*, ground_truth/<type>/<stem>_mask.png     mvtec
    <root>/<category>/train/ok/*,   test/ok/*,   test/ko/*,     ground_truth/ko/<stem>.png              btad

The index is the door: it opens every image and mask once, and reports what later steps could trip over.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, TypeAdapter, ValidationError

from bgad.config.names import check_names, check_text
from bgad.config.paths import check_inside
from bgad.config.settings import Dataset
from bgad.data import findings, mini
from bgad.data.download import presets
from bgad.data.files import (
    MASKS,
    MOST_NAMED,
    check_all_used,
    folders,
    image_files,
    image_masks,
    masks_of,
    near_masks,
    no_images,
    unused,
)
from bgad.data.images import has_16_bits, is_lossy, read_image, read_mask
from bgad.errors import ConfigError, DataError, FileError
from bgad.io import read_json, write_json
from bgad.randomness import shuffled

NORMAL = {"mvtec": "good", "btad": "ok"}  # folder of the normal images, by layout


Listed = tuple[Path, str, str]  # an image, its part and its type


@dataclass(frozen=True)
class ImageRecord:
    """One image: ``path`` and ``mask`` relative to the category's folder, ``part`` train or test, ``type`` good or a defect.

    A training image that is held out has the part test.

    ``empty_mask``: the mask of a published data set marks no pixel. The image counts as anomalous, none of its pixels does, and
    it is never known in training, since there is nothing to cut out of it.
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
    """The images of a category by path, and whether its anomalies have masks.

    ``bit_depth``: of its 16-bit images, None for all 16. ``notes``: what was odd in its folder, or not used.
    """

    dataset: str
    category: str
    texture: bool
    has_masks: bool
    images: tuple[ImageRecord, ...]
    bit_depth: Literal[10, 12, 14, 16] | None = None
    notes: tuple[Annotated[str, AfterValidator(check_text)], ...] = ()

    @property
    def unmasked(self) -> frozenset[str]:
        """The anomalous images without a usable mask, in a category where others have one.

        They are tested on at image level, left out of pixel metrics, and never known.
        """
        return frozenset(image.path for image in self.images if self.has_masks and image.anomalous and image.mask is None)

    @property
    def sha256(self) -> str:
        """Of which images there are, their content and how they are read; not of the notes, whose words may change."""
        return hashlib.sha256(json.dumps(asdict(replace(self, notes=())), sort_keys=True).encode()).hexdigest()

    def save(self, path: Path) -> None:
        values = asdict(self)
        write_json(path, {key: value for key, value in values.items() if value or key not in ("bit_depth", "notes")})

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

    DataError names the first file that cannot be used, and why, or a folder of which images would be left out. With
    ``dataset.strict`` a missing or empty mask cannot be used, unless the published data set is known to have as many empty ones
    (presets.yaml, ``empty_masks``). Otherwise the image goes without a mask, and a note says so.
    """
    from joblib import Parallel, delayed  # planning a workflow does without

    check_names([category], "a category", root)
    folder, normal = root / category, NORMAL[dataset.layout]
    listed = [
        (path, part, "good" if path.parent.name == normal else path.parent.name)
        for part in ("train", "test")
        for path in image_files(folder, part, only=normal if part == "train" else None)
    ]
    check_all_used(folder, normal)
    if not any(part == "train" for _, part, _ in listed):
        raise no_images(folder, "train", normal, f", or correct datasets.{name}.path or layout")
    listed, held_out = _held_out(listed, dataset.hold_out, ("hold-out", name, category))
    masks = masks_of(folder, [path for path, _, kind in listed if kind != "good"])
    # Threads suffice: decoding and hashing release Python's lock.
    check = Parallel(threads, backend="threading")
    checked = check(delayed(_checked)(folder, *image, masks.get(image[0]), dataset.bit_depth) for image in listed)

    preset = presets.dataset(name)
    allowed = preset.empty_masks.get(category, 0) if preset and dataset.strict else 0
    has_masks, known_empty, found = (folder / MASKS).is_dir(), 0, findings.Findings(folder, dataset.bit_depth)
    records: list[ImageRecord] = []
    for (path, _, kind), image in zip(listed, checked, strict=True):
        if isinstance(image, DataError):
            raise image
        record, facts = image
        if has_masks and kind != "good" and record.mask is None:
            some = len(found.missing) < MOST_NAMED
            found.without_mask(path, near_masks(folder, path, masks.values()) if some else [])
            if dataset.strict:
                raise found.no_mask()
        elif record.empty_mask:
            known_empty += 1
            if known_empty > allowed and dataset.strict:
                known = f" beyond the {allowed} that {name}/{category} is known to have" if allowed else ""
                raise DataError(
                    f"{folder / str(record.mask)}: the mask of {path} is empty{known}; mark the defect, or remove both files."
                )
            if not dataset.strict:
                found.empty.append(record.path)
                record = replace(record, mask=None, empty_mask=False)
        found.add(record.path, facts)
        records.append(record)
    if found.missing and not masks and any(image_masks(folder)):
        raise found.no_mask()
    anomalous = [record for record in records if record.anomalous]
    has_masks = has_masks and (not anomalous or any(record.mask for record in anomalous))
    textures = set(dataset.textures) | (set(preset.textures) if preset else mini.TEXTURES if name == "mini" else set())
    notes = (*held_out, *unused(folder, normal, masks.values()), *found.notes(has_masks))
    return Index(name, category, category in textures, has_masks, tuple(records), dataset.bit_depth, notes)


def _held_out(listed: list[Listed], share: float, names: tuple) -> tuple[list[Listed], list[str]]:
    """``listed`` with a ``share`` of the training images in the test part, at least one but not all, and a note on it."""
    train = [path.name for path, part, _ in listed if part == "train"]
    if not share:
        return listed, []
    count = min(max(round(share * len(train)), 1), len(train) - 1)
    moved = set(shuffled(train, *names)[:count])
    note = f"Of the {len(train)} normal images to train on, {count} are tested on instead (hold_out {share})."
    return [(path, "test" if part == "train" and path.name in moved else part, kind) for path, part, kind in listed], [note]


def _checked(
    folder: Path, path: Path, part: str, kind: str, mask: Path | None, bit_depth: int | None
) -> tuple[ImageRecord, findings.Facts] | DataError:
    """The image's record and facts, or why it cannot be used: returned, so that the first such file in order can be named."""
    try:
        image = read_image(path, bit_depth)
        share, resized = None, False
        if mask:
            pixels = read_mask(mask)
            resized = pixels.shape != image.shape[:2]
            if resized and not _same_aspect(pixels.shape, image.shape):
                sizes = [f"{width}x{height}" for height, width in (pixels.shape, image.shape[:2])]
                raise DataError(f"{mask}: the mask is {sizes[0]} pixels and its image {path} {sizes[1]}; make them equal.")
            share = float(pixels.mean())
        facts = findings.Facts(share, resized, mask is not None and is_lossy(mask), has_16_bits(path))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except DataError as error:
        return error
    relative = mask.relative_to(folder).as_posix() if mask else None
    return ImageRecord(path.relative_to(folder).as_posix(), part, kind, relative, digest, share == 0), facts


def _same_aspect(mask: tuple[int, ...], image: tuple[int, ...]) -> bool:
    """Whether the sizes (height, width) have the same aspect ratio, but for less than a pixel of the smaller one."""
    (height, width), (other_height, other_width) = sorted([mask[:2], image[:2]])
    return abs(height - other_height * width / other_width) < 1 and abs(width - other_width * height / other_height) < 1


class _Categories(Mapping[str, dict[str, int]]):
    """The categories in a data set's folders. One is read when it is asked for, and no other: each answers for itself."""

    def __init__(self, name: str, root: Path, layout: str):
        if not root.is_dir():
            raise ConfigError(f"config: datasets.{name}.path is {root}, which is not a folder; correct the path.")
        self._root, self._normal = root, NORMAL[layout]
        self._read: dict[str, dict[str, int]] = {}
        self._names = [entry.name for entry in folders(root) if (root / entry.name / "train" / self._normal).is_dir()]
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
