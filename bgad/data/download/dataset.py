"""Make a known data set: fetch its archives, unpack them, count the images.

Addresses, hashes and counts are in presets.yaml; a data set of one's own never comes here.
"""

import shutil
import sys
from pathlib import Path
from urllib.parse import urlsplit

from bgad.data.download.fetch import DownloadError, fetch
from bgad.data.download.presets import Preset, dataset
from bgad.data.download.unpack import unpack
from bgad.errors import BgadError
from bgad.io import write_text

IMAGES = {".png", ".bmp", ".jpg", ".jpeg", ".tif", ".tiff"}


def download_dataset(name: str, root: Path, archives: Path, wait: float = 1.0) -> None:
    """Make ``root`` the data set ``name``: ``root/<category>/...``, with as many images as presets.yaml states.

    The archives stay in ``archives``. A ``root`` that is already complete is left as it is. Where the whole archive
    cannot be had, the archives of the categories are taken: nobody publishes their hashes, so each is recorded in
    ``archives/<category>.sha256`` and holds from then on. ``wait`` is the first pause after a failed try, in seconds.
    Raises BgadError, with no half-made ``root`` left, where the data set cannot be had whole.
    """
    preset = dataset(name)
    own_copy = f"set datasets.{name}.path to a copy of the data set"
    if preset is None:
        raise BgadError(f"There is no download for the data set {name!r}: {own_copy}")
    if root.is_dir() and any(root.iterdir()):
        if problems := check_counts(root, preset.counts, preset.layout):
            raise BgadError(f"{root} is not all of {name} ({_some(problems)}): delete it to start anew, or {own_copy}")
        return

    files, records = _fetch_archives(name, preset, archives, own_copy, wait)
    staging = root.with_name(root.name + ".staging")  # always the same name, so that what a killed run left is cleared
    shutil.rmtree(staging, ignore_errors=True)
    try:
        for file in files:
            folder = staging / file.name
            unpack(file, folder)
            for entry in folder.iterdir():
                entry.replace(staging / entry.name)
            folder.rmdir()
        if problems := check_counts(staging, preset.counts, preset.layout):
            unpacked = str(files[0]) if len(files) == 1 else f"the category archives in {archives}"
            raise BgadError(f"{name} as unpacked from {unpacked} is not whole ({_some(problems)}): {own_copy}")
        staging.replace(root)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    for record, line in records.items():  # only now: a hash is worth holding to once its archive has proved good
        write_text(record, line)


def check_counts(root: Path, counts: dict[str, dict[str, int]], layout: str = "mvtec") -> list[str]:
    """What differs between the images under ``root`` and ``counts`` (as in presets.yaml), a phrase each; [] if nothing.

    Counted are train/good, test/good (``ok`` in the btad layout), test/<type>, and the masks in ground_truth/<type>.
    A category or folder that is missing, or a defect type that should not be there, is named.
    """
    normal = "ok" if layout == "btad" else "good"
    problems = []
    for category, expected in counts.items():
        if not (root / category).is_dir():
            problems.append(f"{category} is missing")
            continue
        types = {key: number for key, number in expected.items() if key not in ("train", "good")}
        wanted = {f"train/{normal}": expected["train"], f"test/{normal}": expected["good"]}
        wanted |= {f"{part}/{defect}": number for defect, number in types.items() for part in ("test", "ground_truth")}
        for folder, number in wanted.items():
            path = root / category / folder
            noun = "masks" if folder.startswith("ground_truth") else "images"
            if not path.is_dir():
                problems.append(f"{category}/{folder} is missing")
            elif (found := sum(_is_image(entry) for entry in path.iterdir())) != number:
                problems.append(f"{category}/{folder} has {found} {noun} instead of {number}")
        test = root / category / "test"
        there = {entry.name for entry in test.iterdir() if entry.is_dir()} if test.is_dir() else set()
        problems += [f"{category}/test/{name} should not be there" for name in sorted(there - types.keys() - {normal})]
    return problems


def check_copy(name: str, category: str, root: Path) -> None:
    """BgadError unless ``root / category`` of a published data set is whole: its images and masks are counted.

    A copy may have some of the categories only; a data set of one's own has no counts to be held against.
    """
    preset = dataset(name)
    counts = {category: preset.counts[category]} if preset and category in preset.counts else {}
    if problems := check_counts(root, counts, preset.layout if preset else "mvtec"):
        raise BgadError(f"{root}: not the published {name}: {problems[0]}; take a whole copy, or give it another name.")


def _fetch_archives(
    name: str, preset: Preset, archives: Path, own_copy: str, wait: float
) -> tuple[list[Path], dict[Path, str]]:
    """The archives that make up the data set, and the hash records to write once these have proved good."""
    whole = archives / _file_name(preset.urls[0])
    singles = [archives / _file_name(url) for url in preset.category_urls.values()]
    have_singles = bool(singles) and all(single.exists() for single in singles)
    if not whole.exists() and not have_singles:
        _say(f"{preset.licence} ({preset.landing_page}).")
    tried = []
    try:
        if whole.exists() or not have_singles:
            try:
                # Images hardly compress: unpacked, they take about the archive's size once more.
                size = preset.size_bytes
                fetch(preset.urls, whole, preset.sha256, size, wait=wait, reserve=size or 0)
                return [whole], {}
            except DownloadError as error:
                if not singles:
                    raise
                tried.append(error.tried)
                _say(f"{whole.name} could not be had ({error.tried}); fetching the archive of each category instead.")
        records = {}
        for (category, url), single in zip(preset.category_urls.items(), singles, strict=True):
            record = archives / f"{category}.sha256"
            known = record.read_text().split()[0] if record.exists() else None
            records[record] = f"{fetch([url], single, known, wait=wait)}  {single.name}\n"  # as sha256sum -c reads it
        return singles, records
    except DownloadError as error:
        every_try = "; ".join([*tried, error.tried])
        todo = f"run again to resume, put {whole.name} into {archives}, or {own_copy}"
        raise DownloadError(f"{name} could not be downloaded ({every_try}): {todo}", every_try) from error


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGES and not path.name.startswith(".")


def _file_name(url: str) -> str:
    return Path(urlsplit(url).path).name


def _some(problems: list[str]) -> str:
    return "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
