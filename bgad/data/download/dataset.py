"""Make a known data set: fetch its archives, unpack them, count the images.

Addresses, hashes and counts are in presets.yaml.
"""

import shutil
import sys
from pathlib import Path
from urllib.parse import urlsplit

from bgad.config import paths
from bgad.config.settings import Dataset
from bgad.data.download.fetch import DownloadError, fetch
from bgad.data.download.presets import Preset, dataset
from bgad.data.download.unpack import unpack
from bgad.data.files import is_image, named
from bgad.data.layouts import NORMAL
from bgad.errors import DataError
from bgad.io import write_text


def download_dataset(name: str, root: Path, archives: Path, wait: float = 1.0) -> None:
    """Makes ``root`` the data set ``name``: ``root/<category>/...``, with as many images as presets.yaml states.

    The archives stay in ``archives``. A ``root`` that is complete is left alone. If no address gives the whole archive, the
    archives of the categories are fetched: nobody publishes their hashes, so each hash is recorded in
    ``archives/<category>.sha256`` and checked from then on. ``wait`` is the first pause after a failed try, in seconds.
    DownloadError or DataError, with no half-made ``root`` left, if the data set cannot be had completely.
    """
    preset = dataset(name)
    own_copy = f"set datasets.{name}.path to a copy of the data set"
    if preset is None:
        raise DataError(f"There is no download for the data set {name!r}: {own_copy}.")
    if root.is_dir() and any(root.iterdir()):
        if problems := check_counts(root, preset.counts, preset.layout):
            raise DataError(f"{root}: incomplete ({_some(problems)}); delete it to make it again, or {own_copy}.")
        return

    files, records = _fetch_archives(name, preset, archives, own_copy, wait)
    staging = root.with_name(root.name + ".staging")  # always this name, so that the next run clears what a killed one left
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
            raise DataError(f"{name} as unpacked from {unpacked} is incomplete ({_some(problems)}): {own_copy}.")
        staging.replace(root)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    for record, line in records.items():  # only now, when the archives have proved good
        write_text(record, line)


def check_counts(root: Path, counts: dict[str, dict[str, int]], layout: str = "mvtec") -> list[str]:
    """The differences between the images under ``root`` and ``counts`` (as in presets.yaml), a phrase each.

    It counts the images in train/good, test/good (``ok`` in the btad layout) and test/<type>, and the masks in
    ground_truth/<type>, and finds categories, folders and defect types that are missing or unknown.
    """
    normal, problems = NORMAL[layout], []
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
            elif (found := sum(is_image(entry.name) for entry in path.iterdir())) != number:
                problems.append(f"{category}/{folder} has {found} {noun} instead of {number}")
        test = root / category / "test"
        there = {entry.name for entry in test.iterdir() if entry.is_dir()} if test.is_dir() else set()
        problems += [f"{category}/test/{name} should not be there" for name in sorted(there - types.keys() - {normal})]
    return problems


def check_copy(name: str, category: str, root: Path, settings: Dataset) -> tuple[Dataset, tuple[str, ...]]:
    """The settings to check ``root / category`` by, and a note if it is another data set than the published one of its name.

    A complete copy, by the number of its images and masks, is checked strictly. DataError if it is incomplete and is where we
    download to, or ``strict``. A copy may lack categories; your own data sets have no counts to compare.
    """
    preset = dataset(name)
    downloaded = root == Path(paths.DATASET.format(dataset=name))
    if preset is None or category not in preset.counts or (settings.layout != preset.layout and not downloaded):
        return settings, ()
    problems = check_counts(root, {category: preset.counts[category]}, preset.layout)
    if problems and (downloaded or settings.strict):
        raise DataError(f"{root}: not the published {name}: {problems[0]}; use a complete copy, or give it another name.")
    if problems:
        return settings, (f"Not the published {name}: {named(problems[:1])}.",)
    return settings.model_copy(update={"strict": True}), ()


def _fetch_archives(
    name: str, preset: Preset, archives: Path, own_copy: str, wait: float
) -> tuple[list[Path], dict[Path, str]]:
    """The data set's archives, and the hash records to write once they have proved good."""
    whole = archives / _file_name(preset.urls[0])
    singles = [archives / _file_name(url) for url in preset.category_urls.values()]
    have_singles = bool(singles) and all(single.exists() for single in singles)
    if not whole.exists() and not have_singles:
        _say(f"{preset.licence} ({preset.landing_page}).")
    tried = []
    try:
        if whole.exists() or not have_singles:
            try:
                # Images hardly compress: unpacked, they take about the archive's size again.
                size = preset.size_bytes
                fetch(preset.urls, whole, preset.sha256, size, wait=wait, reserve=size or 0)
                return [whole], {}
            except DownloadError as error:
                if not singles:
                    raise
                tried.append(error.tried)
                _say(f"{whole.name} cannot be downloaded ({error.tried}); fetching the archive of each category instead.")
        records = {}
        for (category, url), single in zip(preset.category_urls.items(), singles, strict=True):
            record = archives / f"{category}.sha256"
            known = record.read_text().split()[0] if record.exists() else None
            records[record] = f"{fetch([url], single, known, wait=wait)}  {single.name}\n"  # the format of sha256sum -c
        return singles, records
    except DownloadError as error:
        every_try = "; ".join([*tried, error.tried])
        todo = f"run again to resume, put {whole.name} into {archives}, or {own_copy}"
        raise DownloadError(f"{name} could not be downloaded ({every_try}): {todo}.", every_try) from error


def _file_name(url: str) -> str:
    return Path(urlsplit(url).path).name


def _some(problems: list[str]) -> str:
    return "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
