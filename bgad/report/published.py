"""The published numbers in published.csv, and which of them a setting is compared with."""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bgad.data.download import presets

# The released protocol, behind the numbers that BGAD published.
PUBLISHED_RECIPE = "paper"


@dataclass(frozen=True)
class Published:
    """One published number, in percent.

    ``category`` is "mean" for a mean over all categories of the data set. ``setting`` is seen, hard (``known_type`` is the one
    defect type that training knows, or "mean" over all of them) or unsupervised (the whole test set). ``std`` is None if it
    is not given. ``paper`` says who published it, ``source`` where we read it.
    """

    dataset: str
    category: str
    method: str
    setting: str
    known_type: str
    k: int
    metric: str
    value: float
    std: float | None
    paper: str
    source: str
    note: str

    @property
    def is_single_run(self) -> bool:
        """Whether it is one run next to the number that its paper claims."""
        return "single run" in self.note


def lookup(dataset: str, category: str, method: str, setting: str, known_type: str, k: int, metric: str) -> list[Published]:
    """Every published number with this key, the paper's own before later ones; empty if there is none.

    ``known_type`` is "" unless ``setting`` is "hard".
    """
    key = (dataset, category, method, setting, known_type, k, metric)
    return [p for p in table() if (p.dataset, p.category, p.method, p.setting, p.known_type, p.k, p.metric) == key]


def of_setting(dataset: str, setting: str, k: int, metric: str) -> list[Published]:
    """Every number published for this setting, for all methods, categories and known types, in the order of the file."""
    return [p for p in table() if (p.dataset, p.setting, p.k, p.metric) == (dataset, setting, k, metric)]


def categories_of_mean(dataset: str) -> tuple[str, ...]:
    """The categories that a published mean of ``dataset`` averages over; none for an unknown data set."""
    preset = presets.dataset(dataset)
    return tuple(preset.counts) if preset else ()


def types_of_mean(dataset: str, category: str) -> tuple[str, ...]:
    """The defect types that a published hard mean of a category averages over, each known once."""
    preset = presets.dataset(dataset)
    counts = preset.counts.get(category, {}) if preset else {}
    return tuple(name for name in counts if name not in ("train", "good"))


@cache
def table() -> tuple[Published, ...]:
    """All of published.csv, in order."""
    with Path(__file__).with_name("published.csv").open(encoding="utf-8", newline="") as file:
        return tuple(_published(line) for line in csv.DictReader(file))


def _published(line: dict[str, str]) -> Published:
    k, value, std = int(line.pop("n_anomalies")), float(line.pop("value")), line.pop("std")
    return Published(**line, k=k, value=value, std=float(std) if std else None)
