"""Which files of a category are images, which are masks, and which are not used, so that none is left out silently.

Images are directly in train/<normal> and test/<type>; ground_truth/<type> has <stem>_mask.<ending> or <stem>.<ending> for each.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path

from bgad.config.names import check_file_name, check_names, shown
from bgad.errors import DataError

IMAGE_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
READ = "PNG, JPEG, BMP, TIFF or WebP"
# Images too, but in formats that are not read.
OTHER_IMAGES = {".apng", ".avif", ".dcm", ".exr", ".gif", ".hdr", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".jxl", ".mpo"}
OTHER_IMAGES |= {".arw", ".cr2", ".cr3", ".dng", ".nef", ".npy", ".orf", ".pbm", ".pgm", ".pnm", ".ppm", ".psd", ".raw", ".tga"}
# What systems and file servers leave, in small letters; and whatever begins with a dot.
SERVICE = {"thumbs.db", "ehthumbs.db", "desktop.ini", "lost+found", "__macosx", "system volume information", "$recycle.bin"}
SERVICE |= {"@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot"}
MASK_FOLDERS = {"annotations", "gt", "label", "labels", "mask", "masks", "segmentation"}
MASKS = "ground_truth"
DEEPEST = 4  # folders below a category's; links can form a circle
MOST_NAMED = 3


def image_files(folder: Path, part: str, only: str | None = None) -> list[Path]:
    """The image files in ``folder / part / <type>``, sorted by name in the same way on any system.

    DataError for a type or a file whose name cannot be used. Links are followed: a data set may consist of them.
    """
    types = [only] if only else [entry.name for entry in folders(folder / part)]
    check_names(types, "a defect type", folder / part)
    found = [path for kind in types for path in _images_in(folder / part / kind)]
    for path in found:
        check_file_name(path)
    return found


def is_image(name: str) -> bool:
    """Whether a file of that name is an image: by its ending, and not hidden."""
    return Path(name).suffix.lower() in IMAGE_ENDINGS and not name.startswith(".")


def folders(path: Path) -> list[os.DirEntry]:
    """The folders in ``path`` by name, except hidden ones and those of file servers."""
    if not path.is_dir():
        return []
    return [entry for entry in _entries(path) if not _is_service(entry.name) and Path(entry.path).is_dir()]


def masks_of(folder: Path, images: Iterable[Path]) -> dict[Path, Path]:
    """The mask of each of the anomalous ``images`` in ``folder / test`` that has one.

    DataError if an image has two, or if two images have the same one.
    """
    stems: dict[Path, dict[str, list[Path]]] = {}
    found: dict[Path, Path] = {}
    images_of: dict[Path, Path] = {}
    for image in images:
        place = folder / MASKS / image.parent.name
        if place not in stems:
            stems[place] = defaultdict(list)
            for path in _images_in(place):
                stems[place][path.stem].append(path)
        candidates = [path for stem in (f"{image.stem}_mask", image.stem) for path in stems[place].get(stem, ())]
        if len(candidates) > 1:
            names = " and ".join(path.name for path in candidates)
            raise DataError(f"{shown(image)}: has several masks in {shown(place)}, {shown(names)}; keep one of them.")
        for mask in candidates:
            if (other := images_of.setdefault(mask, image)) != image:
                raise DataError(
                    f"{shown(image)}: has the same mask as {shown(other.name)}, {shown(mask)}; give each image another stem."
                )
            found[image] = mask
    return found


def types_with_masks(folder: Path) -> Counter[str]:
    """{defect type: number of its images that have a mask}; DataError as of ``masks_of``."""
    return Counter(image.parent.name for image in masks_of(folder, image_files(folder, "test")))


def image_masks(folder: Path) -> list[str]:
    """The names of all files in ``folder / ground_truth`` that look like images."""
    return [name for _, name in walk(folder / MASKS) if _like_image(name)]


def near_masks(folder: Path, image: Path, taken: Iterable[Path]) -> list[str]:
    """The names of files that could be meant as the mask of ``image``: similar ones that belong to no other image."""
    place, others = folder / MASKS / image.parent.name, {path.name for path in taken if path.parent.name == image.parent.name}
    names = {name.casefold(): name for _, name in walk(place) if name not in others}
    similar = get_close_matches(f"{image.stem}_mask.png".casefold(), names, MOST_NAMED, cutoff=0.6)
    return [names[name] for name in similar]


def check_all_used(folder: Path, normal: str) -> None:
    """DataError if a folder of images in ``folder`` has others in subfolders or in formats that are not read."""
    for path in [folder / "train" / normal, *(folder / "test" / entry.name for entry in folders(folder / "test"))]:
        files = list(walk(path))
        below = [f"{place}/{name}" for place, name in files if place != "." and _like_image(name)]
        unread = [name for place, name in files if place == "." and _like_image(name) and not is_image(name)]
        count = len(below) + sum(place == "." and _like_image(name) for place, name in files)
        if below:
            raise DataError(
                f"{shown(path)}: {len(below)} of its {count} images are in subfolders ({named(below)}); "
                f"move them up into {shown(path.name)}, or out of the data set."
            )
        if unread:
            endings = ", ".join(sorted({Path(name).suffix.lower() for name in unread}))
            raise DataError(
                f"{shown(path)}: {len(unread)} of its {count} images are {shown(endings)}, which is not read; "
                f"convert them to {READ}, or move them out of the data set."
            )


def unused(folder: Path, normal: str, masks: Iterable[Path]) -> list[str]:
    """Notes on the files of a category that are neither an image nor one of ``masks``, counted by folder and ending."""
    used = {path.relative_to(folder).as_posix() for path in masks}
    types = {f"test/{entry.name}" for entry in folders(folder / "test")}
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for place, name in walk(folder):
        is_used = is_image(name) if place in {f"train/{normal}", *types} else f"{place}/{name}" in used
        # Outside the three folders only images count: a licence next to them is no data.
        if not is_used and (place.split("/")[0] in ("train", "test", MASKS) or _like_image(name)):
            counts[place][Path(name).suffix.lower() or "no ending"] += 1
    notes = []
    for name in sorted({place.split("/")[0] for place in counts}):
        if not (folder / MASKS).is_dir() and _like_masks(name):
            notes.append(f"The folder {named([name])} is not read; call it {MASKS} if it has the masks.")
    if counts:
        each = [f"{sum(of.values())} in {place} ({', '.join(sorted(of))})" for place, of in sorted(counts.items())]
        notes.append(f"Not used: {sum(sum(of.values()) for of in counts.values())} files, {named(each)}.")
    return notes


def no_images(folder: Path, part: str, normal: str, advice: str = "") -> DataError:
    """That ``folder / part / normal`` has no images, with the folders that have some, and how to name them."""
    counts = Counter(place for place, name in walk(folder) if _like_image(name) and place.split("/")[0] != MASKS)
    each = [f"{number} in {'the folder itself' if place == '.' else place}" for place, number in sorted(counts.items())]
    return DataError(
        f"{shown(folder / part / normal)}: no images found ({READ}); "
        + (f"there are {named(each, 8)}. Call the folders" if each else "the folders are")
        + f" train/{normal} (normal images to train on), test/{normal} (others to test on) and test/<type> (anomalous images)"
        f"{advice}."
    )


def named(what: list[str], most: int = MOST_NAMED) -> str:
    """The first of ``what`` and how many more, as printable text."""
    return shown(", ".join(what[:most]) + (f" and {len(what) - most} more" if len(what) > most else ""))


def _images_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for entry in _entries(folder) if is_image(entry.name) and not (path := Path(entry.path)).is_dir()]


def walk(folder: Path, place: str = ".", depth: int = 0) -> Iterator[tuple[str, str]]:
    """(folder relative to the first one, name) of every file that is not a system's."""
    if not folder.is_dir():
        return
    for entry in _entries(folder):
        if _is_service(entry.name):
            continue
        if not Path(entry.path).is_dir():
            yield place, entry.name
        elif depth < DEEPEST:
            yield from walk(Path(entry.path), entry.name if place == "." else f"{place}/{entry.name}", depth + 1)


def _entries(folder: Path) -> list[os.DirEntry]:
    """What is in a folder, by name; DataError if it cannot be read."""
    try:
        return sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{shown(folder)}: cannot be read ({error.strerror}); allow reading it, or move it away.") from error


def _is_service(name: str) -> bool:
    return name.startswith(".") or name.lower() in SERVICE


def _like_image(name: str) -> bool:
    return Path(name).suffix.lower() in IMAGE_ENDINGS | OTHER_IMAGES


def _like_masks(name: str) -> bool:
    return name.lower() in MASK_FOLDERS or bool(get_close_matches(name.lower(), [MASKS], cutoff=0.75))
