"""`bgad train`: a cell from one folder of images, planned from its content. bgad/cli/run_snakemake.py makes it.

<folder>/train/good/*    test/good/*    test/<type>/*    ground_truth/<type>/<stem>_mask.png, if there are masks
"""

import os
import re
import shlex
import shutil
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from bgad.config import cells, paths
from bgad.config.cells import Cell
from bgad.config.names import check_names
from bgad.config.origins import Origin
from bgad.config.settings import Config, Dataset, load_recipe, read_yaml, validated
from bgad.data.content import content_sha256, recorded_folder
from bgad.data.files import image_files, no_images, types_with_masks
from bgad.data.layouts import Index
from bgad.errors import ConfigError, DataError, FileError
from bgad.report.tables.format import NAMES, SHOWN

MOST_KNOWN = 10  # as in the paper
FEW = 2  # test images of a kind, with which metrics mean little


def plan(
    folder: Path,
    recipe: str,
    k: int | None,
    split: str,
    seed: int,
    name: str | None,
    root: Path,
    hold_out: float = 0,
    bit_depth: int | None = None,
) -> tuple[Cell, dict]:
    """The cell for the category ``folder``, and the settings of its data set, named ``name`` or after the folder above.

    By default k is 10, but at most half of the anomalies, and not more than have masks. ``hold_out`` is the share of train/good
    to test on, without which test/good has to have images. DataError if the folder is not in MVTec AD's
    layout or has too few images; ConfigError if the recipe, name or split does not exist, or the name is another data set's.
    """
    folder = Path(os.path.normpath(folder.absolute()))  # a link keeps the name that the user gave it
    types = _types(folder, hold_out)
    _check_recipe(recipe, root)
    drawn = types if split == "seen" else {kind: n for kind, n in types.items() if split == f"hard-{kind}"}
    available, masked = sum(drawn.values()), types_with_masks(folder)
    # A hard split's type leaves the test set completely, known or not; of the seen types, half stays for the test.
    most = min(MOST_KNOWN, available // 2 if split == "seen" else available)
    usable = sum(masked[kind] for kind in drawn)
    k = min(most, usable) if k is None else k
    if k and not usable:
        raise DataError(
            f"{folder}: ground_truth has no mask of an anomaly, so none can be known; add <type>/<stem>_mask.png to it, "
            "or use --k 0."
        )
    if split == "seen" and k and available <= k:
        raise DataError(
            f"{folder}: k {k} needs at least {k + 1} anomalous images in test, and there are {available}; "
            "add some, or use a smaller --k."
        )
    cell = Cell(recipe, name or _name_of(folder.parent), folder.name, split, k, "bgad" if k else "bgad-wo", seed)
    cells.check(cell, lambda _: {folder.name: types})
    _check_same_images(cell, folder, root)
    settings = {"layout": "mvtec", "path": str(folder.parent), "pool": most}
    settings |= {key: value for key, value in {"hold_out": hold_out, "bit_depth": bit_depth}.items() if value}
    validated(Dataset, settings, "bgad train")
    return cell, settings


def origin(cell: Cell, dataset: dict, root: Path) -> Origin:
    """The record for the cell's folder: where its images are, and the command that makes it again."""
    options = {"recipe": cell.recipe, "k": cell.k, "split": cell.split, "seed": cell.seed, "name": cell.dataset}
    options |= {key.replace("_", "-"): dataset[key] for key in ("hold_out", "bit_depth") if key in dataset}
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    return Origin(str(root), dataset["path"], ("bgad", "train", f"{dataset['path']}/{cell.category}", *words))


def summary(metrics: dict, place: Path, found: int) -> str:
    """The metrics of the cell in the folder ``place``, whose category has ``found`` images, and what they mean, for people."""
    counts = metrics["counts"]
    known, normal, anomalous = counts["train_anomalous"], counts["test_normal"], counts["test_anomalous"]
    used = counts["train_normal"] + known + normal + anomalous
    cell = shlex.quote(str(place))
    lines = [
        f"Trained on {counts['train_normal']} normal images and {known} known anomalies; "
        f"tested on {normal} normal and {anomalous} anomalous images.",
        f"Used {used} of the {found} images found{_why_not_all(found - used)}.",
        *(f"note: {note}" for note in metrics.get("notes", [])),
        *(f"{NAMES[metric] + ':':18}{_percent(metrics[metric]['last'])}" for metric in SHOWN),
        f"The cell:         {place}",
        f"Its test images:  {place / 'gallery'}",
        f"To score others:  bgad predict IMAGE... --cell {cell} --out overlays",
    ]
    tested = (normal, "normal"), (anomalous, "anomalous")
    if few := [f"{count} {kind} image{'s' if count != 1 else ''}" for count, kind in tested if count <= FEW]:
        then = f"These mean little with {' and '.join(few)} to test on: add some to test, and train again."
    else:
        then = f"Train with --seed {metrics['cell']['seed'] + 1} next, to see how much of this is luck."
    return "\n".join([*lines, f"By chance, AUROC is 50 % and AUPRO 15 %; 100 % is perfect. {then}"])


def images_found(cell: Cell, root: Path) -> int:
    """How many images the cell's category has, by its index."""
    return len(Index.load(root / paths.INDEX.format(**asdict(cell))).images)


def copy_of(cell: Path, out: Path) -> Path:
    """Copies the folder of a cell to the new folder ``out``, completely or not at all. FileError if it cannot be written."""
    building = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        for source in sorted(path for path in cell.rglob("*") if path.is_file() and not path.name.startswith(".")):
            target = building / source.relative_to(cell)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
        building.replace(out)
    except OSError as error:
        raise FileError(f"{out}: cannot be written ({error.strerror or error}); choose another place.") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return out


def _why_not_all(others: int) -> str:
    return "" if others <= 0 else "; the others are kept for a larger k, are of the known type, or are named in a note"


def _percent(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.2f} % (last epoch)"


def _types(folder: Path, hold_out: float) -> dict[str, int]:
    """{defect type: number of images} of a category; DataError if it is not in MVTec AD's layout."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; check the path.")
    inside = sorted(path.name for path in folder.iterdir() if (path / "train/good").is_dir())
    if inside:
        raise DataError(f"{folder}: holds categories; name one of them, such as {folder / inside[0]}.")
    for part, advice in (("train", ""), ("test", ", or use --hold-out 0.2 to test on a share of train/good")):
        if not image_files(folder, part, only="good") and not (part == "test" and hold_out):
            raise no_images(folder, part, "good", advice)
    check_names([folder.name], "a category", folder.parent)
    counts = Counter(path.parent.name for path in image_files(folder, "test"))
    return {kind: number for kind, number in counts.items() if kind != "good"}


def _check_recipe(recipe: str, root: Path) -> None:
    file = root / paths.recipe_file(recipe)
    known = sorted(path.stem for path in file.parent.glob("*.yaml"))
    if recipe not in known:
        raise ConfigError(f"--recipe {recipe}: unknown; use one of {', '.join(known)}, or add {file}.")
    load_recipe(file)


def _check_same_images(cell: Cell, folder: Path, root: Path) -> None:
    """ConfigError if cells of that data set and category were made from other images, which are still there: training would
    replace what these cells were made from. A folder that was moved has the same images."""
    names, what = asdict(cell), f"{cell.dataset}/{cell.category}"
    if not (root / paths.INDEX.format(**names)).exists():
        return
    before = recorded_folder(root / paths.CONTENT.format(**names))
    if before is None:
        configured = validated(Config, read_yaml(root / "config/config.yaml"), "config/config.yaml").datasets
        if cell.dataset not in configured:
            return
        where = "the data set of that name in config/config.yaml"
    elif before == folder or not before.is_dir() or content_sha256(before) == content_sha256(folder):
        return
    else:
        where = str(before)
    raise ConfigError(f"{folder}: the name {what} is taken by {where}, with other images; give this one another with --name.")


def _name_of(folder: Path) -> str:
    """A folder's name with only what a data set's name may have: letters, digits, dots, dashes and underscores."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", folder.name).strip("-._") or "own"
