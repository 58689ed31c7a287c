"""What the cells of a suite left behind, as tidy tables: the one reader of metrics.json, history.csv,
scores.csv and train.log.

Nothing here averages: a cell without figures keeps its row, empty, with the reason in ``status``.
"""

import csv
import io
import math
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import pandas as pd
from pydantic import AfterValidator, BaseModel, Field, ValidationError, field_validator, model_validator

from bgad.config.cells import Cell
from bgad.config.names import check_text
from bgad.errors import BgadError
from bgad.io import content_of, end_of, read_json
from bgad.report.stale import PARTS, Today

METRICS = ("image_auroc", "pixel_auroc", "aupro", "released_pro")
SHOWN = METRICS[:3]  # in plots and wide tables, which a fourth column would make too wide; the CSV has all four
DONE, INTERRUPTED, NOT_RUN, FAILED = "done", "interrupted", "not run", "failed: "
# What the workflow puts into the log of a process that a system out of memory, or a person, has killed; and what it means.
KILLED = "killed"
WHY_KILLED = "out of memory, or killed by hand (signal 9); let fewer cells run at once (--cores), or give each more memory"
PYTHON_ERROR = re.compile(r"[\w.]+(Error|Exception|BrokenProcessPool)\b")
TRACEBACK, PROGRESS = "Traceback (most recent call last)", "epoch "  # how lines of a log begin

LOG_MOST = 1 << 16  # bytes of a log's end, in which an error is looked for
COMMIT = r"[0-9a-f]{7,64}(\+changes)?"

CELL = ["recipe", "dataset", "category", "split", "k", "method", "seed", "kind", "known_type"]
FIGURES = [*CELL, "metric", "last", "best", "best_epoch", "status"]
BY_TYPE = [*CELL, "type", "known", "n", "image_auroc", "pixel_auroc"]
HISTORY = [*CELL, "epoch", *METRICS]
ORIGINS = [*CELL, "device", "torch", "git_commit", "recipe_sha256", "source_sha256", "split_sha256", "weights_sha256"]


@dataclass(frozen=True)
class Collected:
    """The tables of a suite. Each starts with the fields of the cell, its ``kind`` of split (seen or hard) and the
    ``known_type`` of a hard split; rows keep the order of ``status``, which is the suite's.

    status:     of each cell: done, interrupted, not run, "failed: <sentence>" or "stale: <sentence>"
    figures:    a row for each cell and metric: last, best (percent), best_epoch, status
    full_test:  the same on the whole test set, for the k0 cells
    released_test: a row for each cell and metric: last, as the released code's test command counts (best is empty)
    by_type:    a row for each measured cell and defect type: image and pixel AUROC of the last epoch, known or not, n
    history:    a row for each measured cell and evaluation: epoch and the metrics, in percent
    origins:    a row for each measured cell: device, torch version, commit and hashes
    notes:      what was noticed (noticed.py), each sentence with the measured cells that it concerns
    """

    status: dict[Cell, str]
    figures: pd.DataFrame
    full_test: pd.DataFrame
    released_test: pd.DataFrame
    by_type: pd.DataFrame
    history: pd.DataFrame
    origins: pd.DataFrame
    notes: dict[str, list[Cell]]


def collect(cells: Iterable[Cell], root: Path = Path(), stale_too: bool = False) -> Collected:
    """Reads the folders of ``cells`` under ``root``.

    A cell that is stale (stale.py) has no figures, unless ``stale_too``: then nobody looks whether it is. BgadError if a
    metrics.json belongs to another cell than the folder it lies in; any other damage is the status of that cell.
    """
    status, figures, full_test, released_test, by_type, history, origins = {}, [], [], [], [], [], []
    notes: defaultdict[str, list[Cell]] = defaultdict(list)
    today = Today(root)
    for cell in cells:
        metrics, status[cell] = _read(cell, root)
        if metrics and not stale_too and (stale := today.stale(cell, metrics.model_dump(include={*PARTS}))):
            metrics, status[cell] = None, stale
        fields = _fields(cell)
        figures += _figure_rows(fields, metrics, status[cell])
        if cell.k == 0:
            full_test += _figure_rows(fields, metrics and metrics.full_test, status[cell])
        released_test += _released_rows(fields, metrics.released_test_command if metrics else None, status[cell])
        if metrics:
            by_type += [{**fields, "type": name, **of.model_dump()} for name, of in metrics.by_type.items()]
            history += _history_rows(fields, root / cell.folder / "history.csv")
            origins.append({**metrics.environment, **fields, **metrics.model_dump(include={*ORIGINS})})
            for note in metrics.notes:
                notes[note].append(cell)
    return Collected(
        status,
        _numeric(pd.DataFrame(figures, columns=FIGURES), ["last", "best", "best_epoch"]),
        _numeric(pd.DataFrame(full_test, columns=FIGURES), ["last", "best", "best_epoch"]),
        _numeric(pd.DataFrame(released_test, columns=FIGURES), ["last", "best", "best_epoch"]),
        _numeric(pd.DataFrame(by_type, columns=BY_TYPE), ["image_auroc", "pixel_auroc"]),
        _numeric(pd.DataFrame(history, columns=HISTORY), [*METRICS]),
        pd.DataFrame(origins, columns=ORIGINS),
        dict(notes),
    )


Percent = Annotated[float, Field(ge=0, le=100)] | None
Count = Annotated[int, Field(ge=0, le=10**9)]


class _Figure(BaseModel):
    last: Percent
    best: Percent
    best_epoch: Count | None

    @model_validator(mode="after")
    def _best_is_a_maximum(self):
        below = self.best is not None and self.last is not None and self.best < self.last
        if below or (self.last is None) != (self.best is None):
            raise ValueError(f"best is {self.best} and last is {self.last}, but best is a maximum over last")
        return self


class _OneSet(BaseModel):
    image_auroc: _Figure
    pixel_auroc: _Figure
    aupro: _Figure
    released_pro: _Figure


class _LastOnly(BaseModel):
    image_auroc: Percent
    pixel_auroc: Percent
    aupro: Percent
    released_pro: Percent


class _Type(BaseModel):
    image_auroc: Percent
    pixel_auroc: Percent
    n: Count
    known: bool


class _Counts(BaseModel):
    train_normal: Count
    train_anomalous: Count
    test_normal: Count
    test_anomalous: Count


Text = Annotated[str, AfterValidator(check_text)]


class _Metrics(_OneSet):
    full_test: _OneSet | None = None
    released_test_command: _LastOnly | None = None  # of recipes with that quirk
    by_type: dict[Text, _Type]
    notes: list[Text] = []  # cells from before there were any have none
    recipe_sha256: str
    source_sha256: str
    split_sha256: str
    weights_sha256: str = ""  # cells from before it was recorded have none
    counts: _Counts
    timing: dict[str, float | None]
    environment: dict[Text, Text | int | float | None]

    @field_validator("environment")
    @classmethod
    def _commit_is_one(cls, values: dict) -> dict:
        commit = values.get("git_commit")
        if commit is not None and not re.fullmatch(COMMIT, str(commit)):
            raise ValueError("git_commit is no commit")
        return values


def _read(cell: Cell, root: Path) -> tuple[_Metrics | None, str]:
    path = cell.folder / "metrics.json"
    if not (root / path).exists():
        return None, status_without_metrics(root / cell.folder / "train.log")
    try:
        values = read_json(root / path)
    except BgadError as error:
        return None, FAILED + str(error).replace(str(root / path), str(path))
    if not isinstance(values, dict) or "cell" not in values:
        return None, f"{FAILED}{path}: has no key cell; delete it and run again."
    if values["cell"] != asdict(cell):
        raise BgadError(f"{path}: belongs to the cell {values['cell']}, not to its folder's; delete it and run again.")
    try:
        metrics = _Metrics.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        problem = first["msg"].removeprefix("Value error, ")
        return None, f"{FAILED}{path}: {key}: {problem}; delete it and run again."
    if cell.k == 0 and metrics.full_test is None:
        return None, f"{FAILED}{path}: has no full_test, which a k0 cell reports; delete it and run again."
    return metrics, DONE


LABELS = {"0": False, "1": True}


class Score(NamedTuple):
    """A test image of a cell, by its path in the category's folder, and its score of the last epoch."""

    path: str
    type: str
    anomalous: bool
    score: float


def scores_of(folder: Path) -> list[Score]:
    """The test images of the cell in ``folder``, in the order of its scores.csv; BgadError if that is missing or damaged."""
    path = folder / "scores.csv"
    try:
        rows = csv.DictReader(io.StringIO(content_of(path).decode(), newline=""))
        scores = [Score(row["path"], row["type"], LABELS[row["anomalous"]], float(row["score"])) for row in rows]
        if not scores or not all(math.isfinite(row.score) for row in scores):
            raise ValueError("no scores, or one that is not finite")
        return scores
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        raise BgadError(f"{path}: missing or damaged ({why}); run its cell again.") from error


class Gallery(BaseModel):
    """gallery.json: how the sheets of a cell's pictures are laid out, and what their gray levels mean."""

    count: Count
    columns: int = Field(ge=1, le=1000)
    tile: int = Field(ge=1, le=4096)
    has_masks: bool
    score_of_black: float
    score_of_white: float
    threshold: float | None


def read_gallery(path: Path) -> Gallery:
    """BgadError if the file is missing or damaged."""
    try:
        return Gallery.model_validate(read_json(path))
    except ValidationError as error:
        raise BgadError(f"{path}: not the record of a gallery; run its cell again.") from error


class _Group(BaseModel):
    count: Count
    share: list[float]


class _Level(BaseModel):
    low: float
    high: float
    b_n: float
    b_a: float
    groups: dict[Annotated[str, Field(pattern="^[a-z ]+$")], _Group]


class Likelihoods(BaseModel):
    """likelihoods.json, as bgad/evaluation/likelihoods.py writes it."""

    bins: Count
    beta: float
    tau: float
    levels: list[_Level]


def read_likelihoods(path: Path) -> Likelihoods | None:
    """None for a detector, which has none; BgadError if the file is missing or damaged."""
    try:
        values = read_json(path)
        return None if values is None else Likelihoods.model_validate(values)
    except ValidationError as error:
        raise BgadError(f"{path}: not the histograms of a cell; run its cell again.") from error


def status_without_metrics(log: Path) -> str:
    """Of a cell without figures, from its log: not run, interrupted, or failed with the error that the log ends in."""
    try:
        said = end_of(log, LOG_MOST)
    except OSError:  # not there, as a running Snakemake may take it away at any time, or no log
        return NOT_RUN
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if lines and lines[-1].startswith("error:"):
        why = lines[-1].removeprefix("error:").strip()
        return FAILED + (WHY_KILLED if why == KILLED else why)
    # Python's own errors, which a traceback ends in. Some say more on further lines; after others the training went on.
    last = max((place for place, line in enumerate(lines) if line.startswith(TRACEBACK)), default=len(lines))
    errors = [line for line in lines[last:] if PYTHON_ERROR.match(line)]
    if errors and not any(line.startswith(PROGRESS) for line in lines[last:]):
        return FAILED + errors[-1]
    return INTERRUPTED


def _fields(cell: Cell) -> dict:
    kind, _, known_type = cell.split.partition("-")
    return {**asdict(cell), "kind": kind, "known_type": known_type}


def _figure_rows(fields: dict, of: _OneSet | None, status: str) -> list[dict]:
    values = of.model_dump() if of else {metric: {} for metric in METRICS}
    return [{**fields, "metric": metric, **values[metric], "status": status} for metric in METRICS]


def _released_rows(fields: dict, of: _LastOnly | None, status: str) -> list[dict]:
    values = of.model_dump() if of else {}
    return [{**fields, "metric": metric, "last": values.get(metric), "status": status} for metric in METRICS]


def _history_rows(fields: dict, path: Path) -> list[dict]:
    """The evaluations of a cell; none where the file is missing or damaged, since no figure hangs on it."""
    try:
        table = pd.read_csv(io.BytesIO(content_of(path)), usecols=["epoch", *METRICS], dtype="float64")[["epoch", *METRICS]]
    except (OSError, ValueError, KeyError, OverflowError):
        return []
    if not (table["epoch"].between(0, 10**9) & (table[[*METRICS]].isna() | (table[[*METRICS]].abs() <= 100)).all(axis=1)).all():
        return []
    table["epoch"] = table["epoch"].astype("int64")
    return [{**fields, **row} for row in table.dropna(subset=[*METRICS], how="all").to_dict("records")]


def _numeric(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    return table.astype(dict.fromkeys(columns, "float64"))
