"""What the cells of a suite that are not finished would still take: hours and disk, by what was measured."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from bgad.cli.doctor.hours import CountsOf, counts_of, recipe_of, shared_work, step_times, work_of
from bgad.config import paths
from bgad.config.cells import Cell
from bgad.config.settings import Config
from bgad.data.download import presets
from bgad.errors import BgadError
from bgad.io import read_json


class Host(NamedTuple):
    """Where trainings would run: ``device`` and ``cpu`` as metrics.json records them, threads of each, and how many at once."""

    device: str
    cpu: str
    threads: int
    at_once: int


class Hours(NamedTuple):
    """``hours`` of the whole machine, None where they are not known; ``basis``: what they are estimated from, or why not;
    ``more``: cells beside these of which nothing is known."""

    hours: float | None
    basis: str
    more: int = 0


# (recipe, method, k) -> seconds of a cell for each of its steps (of a detector: images), and from how many cells
Measured = dict[tuple[str, str, int], tuple[float, int]]


def counted(config: Config) -> CountsOf:
    return cache(lambda dataset, category: counts_of(dataset, config.datasets[dataset], category))


def measured(cells: Iterable[Cell], host: Host, counts: CountsOf, root: Path = Path()) -> Measured:
    """What the finished ones of ``cells`` took, if on such a device and processor, with as many threads and today's recipe."""
    seconds: defaultdict[tuple, float] = defaultdict(float)
    steps: Counter[tuple] = Counter()
    number: Counter[tuple] = Counter()
    for cell in cells:
        try:
            metrics = read_json(root / cell.folder / "metrics.json")
            where = metrics["environment"]
            same = (where["device"], where["cpu"], where["threads"]) == host[:3]
            took, recipe_sha256 = float(metrics["timing"]["total_s"]), metrics["recipe_sha256"]
        except (BgadError, KeyError, TypeError, ValueError):  # not finished, or of an old form
            continue
        if same and recipe_sha256 == recipe_of(cell.recipe).sha256:
            key = (cell.recipe, cell.method, cell.k)
            seconds[key] += took
            steps[key] += _steps(cell, counts)
            number[key] += 1
    return {key: (seconds[key] / steps[key], number[key]) for key in seconds}


def hours(cells: list[Cell], host: Host, known: Measured, counts: CountsOf, root: Path = Path()) -> Hours:
    """Of ``cells``, all of them still to do: from measured cells of the same recipe, method and k, by their steps; on a CPU
    else from step_times.yaml. What cells share (features, pools) is only counted on a CPU."""
    total = 0.0
    basis: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    for cell in cells:
        rate, number = known.get((cell.recipe, cell.method, cell.k), (None, 0))
        if rate is not None:
            total += rate * _steps(cell, counts) / host.at_once
            basis[f"{number} measured with {cell.recipe} {cell.method} k{cell.k} on such a machine"] += 1
            continue
        seconds = step_times().seconds(work_of(cell, counts)) if host.device == "cpu" else None
        if seconds is None:
            unknown[f"no {cell.recipe} {cell.method} k{cell.k} cell was measured on such a machine ({host.device})"] += 1
            continue
        total += seconds / (host.at_once * host.threads)
        basis[f"their counted steps at the times of {step_times().machine}"] += 1
    reasons = "; ".join(unknown)
    if unknown and not basis:
        return Hours(None, f"not known: {reasons}", unknown.total())
    if host.device == "cpu":
        shared = step_times().seconds(shared_work(_without_features(cells, root), counts))
        total += (shared or 0) / (host.at_once * host.threads)
    found = "; ".join(f"{count} cell{'s' * (count > 1)} by {what}" for what, count in basis.items())
    return Hours(total / 3600, found + f"; {unknown.total()} not counted: {reasons}" * bool(unknown), unknown.total())


def disk_mb(cells: list[Cell], config: Config, counts: CountsOf, root: Path = Path()) -> int:
    """What ``cells`` will fill at least, in MB: downloads with their archives, features, and models. Of a recipe whose network
    is not in step_times.yaml, nothing is counted."""
    total = 0
    for dataset in {cell.dataset for cell in cells}:
        preset = presets.dataset(dataset)
        if preset and config.datasets[dataset].path is None and not is_downloaded(dataset, root):
            total += 2 * (preset.size_bytes or 0)  # the archive stays, and images hardly shrink in one
    for (what, recipe, *_), images in shared_work(_without_features(cells, root), counts).items():
        if what == "image" and (times := step_times().of(recipe_of(recipe))):
            total += images * (times.image_bytes + times.image_size**2)  # and its mask
    for cell in cells:
        times = step_times().of(recipe_of(cell.recipe))
        total += times.model_bytes if times else 0
    return round(total / 1e6)


def is_downloaded(dataset: str, root: Path = Path()) -> bool:
    return (root / f"{paths.DATASET.format(dataset=dataset)}.complete").exists()


def _steps(cell: Cell, counts: CountsOf) -> int:
    return sum(count for (what, *_), count in work_of(cell, counts).items() if what in ("step", "detector"))


def _without_features(cells: list[Cell], root: Path) -> list[Cell]:
    @cache
    def there(recipe: str, dataset: str, category: str) -> bool:
        backbone, size = recipe_of(recipe).backbone, recipe_of(recipe).image_size
        folder = paths.FEATURES.format(backbone=backbone, image_size=size, dataset=dataset, category=category)
        return (root / folder / "features.json").exists()

    return [cell for cell in cells if not there(cell.recipe, cell.dataset, cell.category)]
