"""Where a cell's figures came from: split, recipe, code, weights and machine, whether these are still the same, and how to
make it again."""

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path

from bgad.config import paths
from bgad.config.cells import Cell
from bgad.config.settings import Config, read_yaml, validated
from bgad.data.splits import Split
from bgad.errors import BgadError
from bgad.io import read_json
from bgad.report.collect import DONE, collect, read_gallery, scores_of
from bgad.report.stale import CHANGED, SAME, Today, against

LOGS = ("train.log", "benchmark.tsv")


@dataclass(frozen=True)
class Image:
    """A test image of a cell: ``rank`` 1 is the most anomalous of ``of``; ``called_anomalous`` is the cell's verdict at its
    threshold, None where it has none."""

    path: str
    type: str
    anomalous: bool
    score: float
    rank: int
    of: int
    threshold: float | None
    called_anomalous: bool | None


def explain(folder: Path) -> dict:
    """What is known of the finished cell in ``folder``, as JSON values: metrics.json, and beside it what lies there today.

    ``split``, ``recipe``, ``code`` and ``weights`` have the SHA-256 of then and ``today``: "as today", "changed since" or "not
    there today"; weights are compared with the record of the feature cache. ``missing``: the files that a whole cell would
    have; ``again``: the commands that make it again. BgadError for a cell that is not finished, with the command that makes it.
    """
    cell, root = _finished(folder)
    metrics = read_json(folder / "metrics.json")
    today = Today(root)
    recipe, (split_file, split) = today.recipe(cell), today.split(cell)
    features = None
    if recipe:
        features = paths.FEATURES.format(**asdict(cell), backbone=recipe.backbone, image_size=recipe.image_size)
    of_recipe, of_split, code = (_then_and_today(metrics[key], now) for key, now in today.sha256(cell).items())
    changed = CHANGED in (code["today"], of_recipe["today"])
    if of_split["today"] != SAME:
        split = None
    return {
        "folder": cell.folder.as_posix(),
        "missing": [name for name in paths.CELL_FILES if not (folder / name).is_file()],
        "logs": [name for name in LOGS if (folder / name).is_file()],
        "split": {
            "file": split_file,
            **of_split,
            "known": list(split.known(cell.k)) if split else None,
        },
        "recipe": {"file": paths.recipe_file(cell.recipe).as_posix(), **of_recipe},
        "code": code,
        "weights": {
            "backbone": recipe.backbone if recipe else None,
            "features": features,
            **_then_and_today(metrics.get("weights_sha256"), _weights_of_cache(root, features)),
        },
        "again": _again(cell, root, split, metrics["environment"].get("git_commit") if changed else None),
        "metrics": metrics,
    }


def explain_image(folder: Path, image: str) -> Image:
    """The score of a test image of the cell in ``folder``; ``image`` is its path as in scores.csv, or one that ends in
    the category's folder and that path.

    BgadError where the cell did not test it, with the reason as far as it is known.
    """
    cell, root = _finished(folder)
    rows = scores_of(folder)
    row = next((row for row in rows if _is(image, cell.category, row.path)), None)
    if row is None:
        why = _why_not_tested(cell, root, image)
        raise BgadError(f"{image}: {why}; name one of the images in {folder / 'scores.csv'}.")
    sheets = folder / "gallery" / "gallery.json"
    threshold = read_gallery(sheets).threshold if sheets.is_file() else None
    return Image(
        *row,
        1 + sum(other.score > row.score for other in rows),
        len(rows),
        threshold,
        None if threshold is None else row.score >= threshold,
    )


def _finished(folder: Path) -> tuple[Cell, Path]:
    """The cell in ``folder`` and the folder that its ``results`` lies in; BgadError unless it is finished, stale or not."""
    cell, root = Cell.located(folder)
    status = collect([cell], root, stale_too=True).status[cell]
    if status != DONE:
        raise BgadError(f"{folder}: {status.rstrip('.')}; make it with snakemake --cores all {_target(cell)}.")
    return cell, root


def _target(cell: Cell) -> str:
    return shlex.quote(paths.METRICS.format(**asdict(cell)))  # a category may have spaces in its name


def _again(cell: Cell, root: Path, split: Split | None, commit: str | None) -> list[str]:
    """The commands, with the commit to go back to first where the code or the recipe is another today."""
    config = root / "config/config.yaml"
    known = config.is_file() and cell.dataset in validated(Config, read_yaml(config), config).datasets
    # `bgad train` gives a small data set a smaller pool, and another pool is another test set.
    pool = f", pool: {len(split.pool)}" if split else ""
    place = "" if known else f" --config {shlex.quote(f'datasets={{{cell.dataset}: {{path: FOLDER{pool}}}}}')}"
    command = f"snakemake --cores all -f {_target(cell)}{place}"
    if commit is None:
        return [command]
    remark = "   # and changes that no commit holds" if commit.endswith("+changes") else ""
    return [f"git switch --detach {commit.removesuffix('+changes')}{remark}", command]


def _weights_of_cache(root: Path, features: str | None) -> str | None:
    record = root / (features or "") / "features.json"
    found = read_json(record) if record.is_file() else None
    return found.get("weights_sha256") if isinstance(found, dict) else None


def _then_and_today(then: str | None, today: str | None) -> dict[str, str | None]:
    return {"sha256": then, "today": against(then, today)}


def _why_not_tested(cell: Cell, root: Path, image: str) -> str:
    _, split = Today(root).split(cell)
    lists = {} if split is None else {
        "the cell knew it as an anomaly": split.known(cell.k),
        "it is in the pool of known anomalies, which leaves the test set whatever k is": split.pool,
        "its type is the known one of the split, which is not tested": split.held_out,
        "the cell trained on it": split.train_normal,
        **{f"it was left out everywhere ({why})": [path] for path, why in split.excluded},
    }  # fmt: skip
    return next(
        (why for why, of in lists.items() if any(_is(image, cell.category, path) for path in of)), "the cell did not test it"
    )


def _is(image: str, category: str, path: str) -> bool:
    """Whether ``image``, as a user named it, is the image of that path in the category's folder: other categories have images
    of the same paths."""
    return Path(image).as_posix() == path or f"/{Path(image).as_posix()}".endswith(f"/{category}/{path}")
