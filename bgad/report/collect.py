"""Reads what the cells of a suite left behind into tidy tables: metrics.json, history.csv, scores.csv, train.log, the gallery.

These files can come from strangers. This is the one place that reads them; it checks and bounds every value. Nothing is
averaged here: a cell without metrics keeps its row, empty, with the reason in ``status``.
"""

import csv
import io
import math
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import pandas as pd
from pydantic import AfterValidator, BaseModel, Field, TypeAdapter, ValidationError, field_validator, model_validator

from bgad.config.cells import Cell
from bgad.config.names import check_text
from bgad.config.settings import MARGIN
from bgad.errors import BgadError, FileError
from bgad.evaluation.metrics import METRICS
from bgad.io import content_of, end_of, read_json
from bgad.report.stale import PARTS, Today

DONE, INTERRUPTED, NOT_RUN, FAILED = "done", "interrupted", "not run", "failed: "
KILLED = "killed"  # the workflow writes this into the log of a killed process, which usually means:
WHY_KILLED = "out of memory, or killed by hand (signal 9); let fewer cells run at once (--cores), or give each more memory"
PYTHON_ERROR = re.compile(r"[\w.]+(Error|Exception|BrokenProcessPool)\b")
TRACEBACK, PROGRESS = "Traceback (most recent call last)", "epoch "  # how lines of a log begin
LOG_MOST = 1 << 16  # bytes at a log's end that are searched for an error

CELL = ["recipe", "dataset", "category", "split", "k", "method", "seed", "kind", "known_type"]
COLUMNS = [*CELL, "metric", "last", "best", "best_epoch", "status"]
BY_TYPE = [*CELL, "type", "known", "n", "image_auroc", "pixel_auroc"]
HISTORY = [*CELL, "epoch", *METRICS]
ORIGINS = [*CELL, "device", "cpu", "torch", "git_commit", *PARTS, "weights_sha256"]


@dataclass(frozen=True)
class Collected:
    """The tables of a suite, whose cells are in ``root``. Each begins with the cell's fields, the ``kind`` of its split (seen
    or hard) and the ``known_type`` of a hard split; rows are in the order of ``status``, the suite's.

    status:     of each cell: done, interrupted, not run, "failed: <sentence>" or "stale: <sentence>"
    metrics:    a row per cell and metric: last, best (percent), best_epoch, status
    full_test:  the same on the whole test set, for k0 cells
    released_test: a row per cell and metric: last, counted as the released test command does (best is empty)
    by_type:    a row per measured cell and defect type: image and pixel AUROC of the last epoch, known or not, n
    history:    a row per measured cell and evaluation: epoch and the metrics, in percent
    origins:    a row per measured cell: device, torch version, commit and hashes
    notes:      each warning about the data, with the measured cells that it concerns
    margin:     percentage points that a verdict on a published number allows
    """

    root: Path
    status: dict[Cell, str]
    metrics: pd.DataFrame
    full_test: pd.DataFrame
    released_test: pd.DataFrame
    by_type: pd.DataFrame
    history: pd.DataFrame
    origins: pd.DataFrame
    notes: dict[str, list[Cell]]
    margin: float = MARGIN


def collect(cells: Iterable[Cell], root: Path = Path(), stale_too: bool = False) -> Collected:
    """Reads the folders of ``cells`` under ``root``.

    A stale cell (stale.py) has no metrics unless ``stale_too``, which skips that check. FileError if a metrics.json belongs to
    another cell than its folder; any other damage becomes the status of that cell.
    """
    status: dict[Cell, str] = {}
    rows: defaultdict[str, list[dict]] = defaultdict(list)
    notes: defaultdict[str, list[Cell]] = defaultdict(list)
    today = Today(root)
    for cell in cells:
        found, status[cell] = read_cell(cell, root / cell.folder)
        if found and not stale_too and (stale := today.stale(cell, found.model_dump(include={*PARTS}))):
            found, status[cell] = None, stale
        kind, _, known_type = cell.split.partition("-")
        fields = {**asdict(cell), "kind": kind, "known_type": known_type}
        of_cell = fields | {"status": status[cell]}
        rows["metrics"] += _metric_rows(of_cell, found)
        if cell.k == 0:
            rows["full_test"] += _metric_rows(of_cell, found.full_test if found else None)
        rows["released_test"] += [
            {**of_cell, "metric": m, "last": found and found.released_test_command.get(m)} for m in METRICS
        ]
        if found:
            rows["by_type"] += [{**fields, "type": name, **of.model_dump()} for name, of in found.by_type.items()]
            rows["history"] += [{**fields, **row} for row in _history(root / cell.folder / "history.csv")]
            rows["origins"].append({**found.environment, **fields, **found.model_dump(include={*ORIGINS})})
            for note in found.notes:
                notes[note].append(cell)

    def table(name: str, columns: list[str] = COLUMNS, numeric: Iterable[str] = ("last", "best", "best_epoch")) -> pd.DataFrame:
        return pd.DataFrame(rows[name], columns=columns).astype(dict.fromkeys(numeric, "float64"))

    return Collected(
        root,
        status,
        metrics=table("metrics"),
        full_test=table("full_test"),
        released_test=table("released_test"),
        by_type=table("by_type", BY_TYPE, METRICS[:2]),
        history=table("history", HISTORY, METRICS),
        origins=table("origins", ORIGINS, ()),
        notes=dict(notes),
    )


def status_without_metrics(log: Path) -> str:
    """The status of a cell without metrics, from its log: not run, interrupted, or failed with the error that ends the log."""
    try:
        text = end_of(log, LOG_MOST)
    except OSError:  # there is no log, or a running Snakemake has just removed it
        return NOT_RUN
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines and lines[-1].startswith("error:"):
        why = lines[-1].removeprefix("error:").strip()
        return FAILED + (WHY_KILLED if why == KILLED else why)
    # A Python error ends a traceback, sometimes with further lines. If training went on after it, it did not fail.
    last = max((place for place, line in enumerate(lines) if line.startswith(TRACEBACK)), default=len(lines))
    errors = [line for line in lines[last:] if PYTHON_ERROR.match(line)]
    if errors and not any(line.startswith(PROGRESS) for line in lines[last:]):
        return FAILED + errors[-1]
    return INTERRUPTED


Percent = Annotated[float, Field(ge=0, le=100)] | None
Count = Annotated[int, Field(ge=0, le=10**9)]
Text = Annotated[str, AfterValidator(check_text)]
CountKey = Literal["train_normal", "train_anomalous", "test_normal", "test_anomalous"]


class Metric(BaseModel):
    last: Percent
    best: Percent
    best_epoch: Count | None

    @model_validator(mode="after")
    def _best_is_a_maximum(self):
        below = self.best is not None and self.last is not None and self.best < self.last
        if below or (self.last is None) != (self.best is None):
            raise ValueError(f"best is {self.best} and last is {self.last}, but best is a maximum over last")
        return self


class OneSet(BaseModel):
    image_auroc: Metric
    pixel_auroc: Metric
    aupro: Metric
    released_pro: Metric


class ByType(BaseModel):
    image_auroc: Percent
    pixel_auroc: Percent
    n: Count
    known: bool


class Record(OneSet):
    """metrics.json without the cell's names."""

    full_test: OneSet | None = None
    released_test_command: dict[str, Percent] = {}  # only with recipes that have that quirk
    by_type: dict[Text, ByType]
    notes: list[Text] = []  # missing in older cells
    recipe_sha256: str
    source_sha256: str
    split_sha256: str
    weights_sha256: str = ""  # these three are missing in older cells
    index_sha256: str = ""
    features_sha256: str = ""
    counts: Annotated[dict[CountKey, Count], Field(min_length=4)]
    timing: dict[str, float | None]
    environment: dict[Text, Text | int | float | None]

    @field_validator("environment")
    @classmethod
    def _is_a_commit(cls, values: dict) -> dict:
        commit = values.get("git_commit")
        if commit is not None and not re.fullmatch(r"[0-9a-f]{7,64}(\+changes)?", str(commit)):
            raise ValueError("git_commit is not a commit")
        return values


class Gallery(BaseModel):
    """gallery.json: how the sheets of a cell's images are laid out, and what their gray levels mean."""

    count: Count
    columns: int = Field(ge=1, le=1000)
    tile: int = Field(ge=1, le=4096)
    has_masks: bool
    score_of_black: float
    score_of_white: float
    threshold: float | None


class Group(BaseModel):
    count: Count
    share: list[float]


class Level(BaseModel):
    low: float
    high: float
    b_n: float
    b_a: float
    groups: dict[Annotated[str, Field(pattern="^[a-z ]+$")], Group]


class Likelihoods(BaseModel):
    """likelihoods.json, as bgad/evaluation/likelihoods.py writes it."""

    bins: Count
    beta: float
    tau: float
    levels: list[Level]


class Score(NamedTuple):
    """A test image, by its path in the category's folder, and its score in the last epoch."""

    path: str
    type: str
    anomalous: bool
    score: float


def scores_of(folder: Path) -> list[Score]:
    """The test images of the cell in ``folder``, in the order of its scores.csv; FileError if that is missing or damaged."""
    path, labels = folder / "scores.csv", {"0": False, "1": True}
    try:
        rows = csv.DictReader(io.StringIO(content_of(path).decode(), newline=""))
        scores = [Score(row["path"], row["type"], labels[row["anomalous"]], float(row["score"])) for row in rows]
        if not scores or not all(math.isfinite(row.score) for row in scores):
            raise ValueError("no scores, or one that is not finite")
        return scores
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        raise FileError(f"{path}: missing or damaged ({why}); run its cell again.") from error


def read_gallery(path: Path) -> Gallery:
    """FileError if gallery.json is missing or damaged."""
    return _checked(TypeAdapter(Gallery), path)


def read_likelihoods(path: Path) -> Likelihoods | None:
    """None for a detector, which has none; FileError if likelihoods.json is missing or damaged."""
    return _checked(TypeAdapter(Likelihoods | None), path)


def _checked(kind: TypeAdapter, path: Path):
    try:
        return kind.validate_python(read_json(path))
    except ValidationError as error:
        raise FileError(f"{path}: damaged; run its cell again.") from error


def read_cell(cell: Cell, folder: Path) -> tuple[Record | None, str]:
    """The metrics.json of ``cell`` in ``folder``, and the cell's status; FileError if it belongs to another cell."""
    path, shown = folder / "metrics.json", cell.folder / "metrics.json"
    if not path.exists():
        return None, status_without_metrics(folder / "train.log")
    try:
        values = read_json(path)
    except BgadError as error:
        return None, FAILED + str(error).replace(str(path), str(shown))
    if not isinstance(values, dict) or "cell" not in values:
        return None, f"{FAILED}{shown}: has no key cell; delete it and run again."
    if values["cell"] != asdict(cell):
        raise FileError(f"{shown}: belongs to the cell {values['cell']}, not to this folder's; delete it and run again.")
    try:
        found = Record.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        return None, f"{FAILED}{shown}: {key}: {first['msg'].removeprefix('Value error, ')}; delete it and run again."
    if cell.k == 0 and found.full_test is None:
        return None, f"{FAILED}{shown}: has no full_test, which a k0 cell reports; delete it and run again."
    return found, DONE


def _metric_rows(of_cell: dict, found: OneSet | None) -> list[dict]:
    values = found.model_dump(include={*METRICS}) if found else {}
    return [{**of_cell, "metric": metric, **values.get(metric, {})} for metric in METRICS]


def _history(path: Path) -> list[dict]:
    """A cell's evaluations; none if the file is missing or damaged, since no metric depends on it."""
    metrics = [*METRICS]
    try:
        table = pd.read_csv(io.BytesIO(content_of(path)), usecols=["epoch", *metrics], dtype="float64")[["epoch", *metrics]]
    except (OSError, ValueError, KeyError, OverflowError):
        return []
    possible = (table[metrics].isna() | (table[metrics].abs() <= 100)).all(axis=1)
    if not (table["epoch"].between(0, 10**9) & possible).all():
        return []
    return table.astype({"epoch": "int64"}).dropna(subset=metrics, how="all").to_dict("records")
