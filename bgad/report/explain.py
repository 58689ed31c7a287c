"""Where a cell's metrics came from: split, recipe, code, weights, machine; whether these have changed; how to make it again."""

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path

from tabulate import tabulate

from bgad.config import paths
from bgad.config.cells import Cell
from bgad.config.origins import command_for, located, origin_of
from bgad.config.settings import Config, read_yaml, validated
from bgad.data.splits import Split
from bgad.errors import ConfigError, FileError
from bgad.io import read_json
from bgad.report.averages import RULES
from bgad.report.collect import DONE, read_cell, read_gallery, scores_of
from bgad.report.stale import CHANGED, SAME, Today, against
from bgad.report.statistics import number
from bgad.report.tables.format import NAMES, NONE, SHOWN

LOGS = ("train.log", "benchmark.tsv")


@dataclass(frozen=True)
class Image:
    """A test image of a cell. ``rank`` 1 of ``of`` is the most anomalous; ``called_anomalous`` is the verdict at the cell's
    threshold, None without one."""

    path: str
    type: str
    anomalous: bool
    score: float
    rank: int
    of: int
    threshold: float | None
    called_anomalous: bool | None


def explain(folder: Path) -> dict:
    """What is known about the finished cell in ``folder``, as JSON values: its metrics.json, and what has changed since.

    ``split``, ``recipe``, ``images``, ``features``, ``code`` and ``weights`` have the cell's SHA-256 and ``today``:
    "unchanged", "changed" or "missing today"; weights are compared with the record of the feature cache. ``missing``: the
    cell's files that are not there; ``again``: the commands that make it again. FileError for a cell that is not finished, with
    the command that makes it.
    """
    cell, root = _finished(folder)
    metrics = read_json(folder / "metrics.json")
    today = Today(root)
    recipe, (split_file, split), features = today.recipe(cell), today.split(cell), today.features(cell)
    hashes = [_then_and_today(metrics.get(key), now) for key, now in today.sha256(cell).items()]
    of_recipe, of_split, of_index, of_features, code = hashes
    changed = CHANGED in (code["today"], of_recipe["today"])
    if of_split["today"] != SAME:
        split = None
    weights = _then_and_today(metrics.get("weights_sha256"), _weights_of_cache(root, features))
    return {
        "folder": cell.folder.as_posix(),
        "missing": [name for name in paths.CELL_FILES if not (folder / name).is_file()],
        "logs": [name for name in LOGS if (folder / name).is_file()],
        "split": {"file": split_file, **of_split, "known": list(split.known(cell.k)) if split else None},
        "recipe": {"file": paths.recipe_file(cell.recipe).as_posix(), **of_recipe},
        "images": {"file": paths.INDEX.format(**asdict(cell)), **of_index},
        "features": {"file": features, **of_features},
        "code": code,
        "weights": {"backbone": recipe.backbone if recipe else None, "features": features, **weights},
        "again": _again(cell, folder, root, split, metrics["environment"].get("git_commit") if changed else None),
        "metrics": metrics,
    }


def explain_image(folder: Path, image: str) -> Image:
    """The score of a test image of the cell in ``folder``. ``image`` is its path as in scores.csv, or any path that ends in the
    category's folder and that path.

    ConfigError if the cell did not test it, with the reason if it is known.
    """
    cell, root = _finished(folder)
    rows = scores_of(folder)
    row = next((row for row in rows if _is(image, cell.category, row.path)), None)
    if row is None:
        why = _why_not_tested(cell, root, image)
        raise ConfigError(f"{image}: {why}; name one of the images in {folder / 'scores.csv'}.")
    sheets = folder / "gallery" / "gallery.json"
    threshold = read_gallery(sheets).threshold if sheets.is_file() else None
    rank = 1 + sum(other.score > row.score for other in rows)
    return Image(*row, rank, len(rows), threshold, None if threshold is None else row.score >= threshold)


def _finished(folder: Path) -> tuple[Cell, Path]:
    """The cell in ``folder`` and its project; FileError unless it is finished, stale or not."""
    cell, root = located(folder)
    status = read_cell(cell, folder)[1]
    if status != DONE:
        raise FileError(f"{folder}: {status.rstrip('.')}; make it with {command_for(folder, 'metrics.json')}.")
    return cell, root


def _target(cell: Cell) -> str:
    return shlex.quote(paths.METRICS.format(**asdict(cell)))  # a category may have spaces in its name


def _again(cell: Cell, folder: Path, root: Path, split: Split | None, commit: str | None) -> list[str]:
    """The commands that make the cell again; if code or recipe have changed, the first one returns to ``commit``."""
    if origin := origin_of(folder):
        command = shlex.join(origin.command)
    else:
        config = root / "config/config.yaml"
        known = config.is_file() and cell.dataset in validated(Config, read_yaml(config), config).datasets
        # Another pool means another test set.
        pool = f", pool: {len(split.pool)}" if split else ""
        place = "" if known else f" --config {shlex.quote(f'datasets={{{cell.dataset}: {{path: FOLDER{pool}}}}}')}"
        command = f"snakemake --cores all -f {_target(cell)}{place}"
    if commit is None:
        return [command]
    remark = "   # plus changes that were never committed" if commit.endswith("+changes") else ""
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
        "it is one of the cell's known anomalies": split.known(cell.k),
        "it is in the pool of known anomalies, which is never tested, whatever k is": split.pool,
        "its type is the split's known type, which is not tested": split.held_out,
        "the cell was trained on it": split.train_normal,
        **{f"it was left out everywhere ({why})": [path] for path, why in split.excluded},
    }  # fmt: skip
    reasons = (why for why, of in lists.items() if any(_is(image, cell.category, path) for path in of))
    return next(reasons, "the cell did not test it")


def _is(image: str, category: str, path: str) -> bool:
    """Whether the user's ``image`` means that path in the category's folder; other categories have images of the same path."""
    return Path(image).as_posix() == path or f"/{Path(image).as_posix()}".endswith(f"/{category}/{path}")


def as_text(found: dict, image: Image | None) -> str:
    """The explanation for people."""
    metrics, split = found["metrics"], found["split"]
    counts, timing, environment = metrics["counts"], metrics["timing"], metrics["environment"]
    values = [[NAMES[metric], *(_percent(metrics[metric][rule]) for rule in RULES)] for metric in SHOWN]
    known = ["not known: the split has changed or is missing"] if split["known"] is None else split["known"] or ["none"]
    rows = [
        ("files", "complete" if not found["missing"] else f"MISSING {', '.join(found['missing'])}"),
        ("logs", ", ".join(found["logs"]) or "none"),
        ("split", split["file"] or "not known without the recipe"),
        ("", _hash(split)),
        ("known anomalies", "\n".join(known)),
        ("trained on", f"{counts['train_normal']} normal, {counts['train_anomalous']} known anomalous images"),
        ("tested on", f"{counts['test_normal']} normal, {counts['test_anomalous']} anomalous images"),
        *(
            (name, f"{found[name].get('file') or ''} {_hash(found[name])}".strip())
            for name in ("recipe", "images", "features", "code")
        ),
        ("weights", f"{found['weights']['backbone'] or ''} {_hash(found['weights'])}".strip()),
        ("commit", environment.get("git_commit") or "not known"),
        ("environment", ", ".join(f"{key} {value}" for key, value in environment.items() if key != "git_commit")),
        ("took", ", ".join(f"{key} {value}" for key, value in timing.items() if value is not None)),
        ("make it again", "\n".join(found["again"])),
    ]
    table = tabulate(values, ["percent", *RULES], disable_numparse=True, colalign=["left", "right", "right"])
    lines = [found["folder"], "", table, "", tabulate(rows, tablefmt="plain", disable_numparse=True)]
    return "\n".join([*lines, *(["", _of_image(image)] if image else [])])


def _percent(value: float | None) -> str:
    return NONE if value is None else number(value)


def _of_image(image: Image) -> str:
    verdict = {None: "no verdict", True: "called anomalous", False: "called normal"}[image.called_anomalous]
    threshold = "" if image.threshold is None else f" at the threshold {image.threshold:.4f}"
    return f"{image.path} ({image.type}): score {image.score:.4f}, rank {image.rank} of {image.of}, {verdict}{threshold}"


def _hash(of: dict) -> str:
    return f"SHA-256 {of['sha256'][:12]}..., {of['today']}" if of["sha256"] else "no SHA-256 was recorded"
