"""`bgad doctor`: what this machine lacks, and how long each suite would take on it. Reads files only, uses no network."""

import importlib.metadata
import platform
import shutil
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import joblib
import psutil
from tabulate import tabulate

from bgad import devices
from bgad.config import paths
from bgad.config.cells import Cell, expand
from bgad.config.gpu_share import percent_of_gpu
from bgad.config.settings import Config, Recipe, load_recipe, load_suite
from bgad.data.download import presets
from bgad.data.layouts import catalogue
from bgad.errors import BgadError, ConfigError
from bgad.features.backbone import PACKAGED
from bgad.features.weights import at_hand
from bgad.io import read_json
from bgad.model.cpu import chain
from bgad.report.stale import Today

TRAINING_MB = 4000  # memory of a training, as rule train of the workflow asks for
MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of a container, in bytes or "max"
MISSING = "missing"  # until the workflow downloads it


class Finding(NamedTuple):
    """``remedy``: what to do, "" if nothing is missing. ``blocks``: what needs it cannot run without it."""

    what: str
    state: str
    remedy: str = ""
    blocks: bool = False


class Need(NamedTuple):
    """A suite: its cells, those ``finished`` and up to date, the ``hours`` of the others (None: not measured), how many the
    hours leave out, what will be downloaded, and why the suite cannot run (empty: it can)."""

    suite: str
    cells: int
    finished: int
    hours: float | None
    not_measured: int
    downloads: list[str]
    cannot: list[str]


class Report(NamedTuple):
    machine: list[Finding]
    datasets: list[Finding]
    weights: list[Finding]
    suites: list[Need]


def examine(config: Config, suites: Iterable[str]) -> Report:
    """This machine for ``suites`` of the current project."""
    plans = {name: _plan(name, config) for name in suites}
    load = cache(load_recipe)
    recipes = {cell: load(paths.recipe_file(cell.recipe)) for cells, _ in plans.values() for cell in cells}
    datasets = {name: _dataset(name, config) for name in config.datasets}
    weights = {name: _weights(name, config) for name in sorted({recipe.backbone for recipe in recipes.values()})}
    on_gpu = config.device != "cpu" and bool(devices.gpus())
    machine, at_once = _machine(config, on_gpu)
    here = devices.describe(devices.choose(config.device if on_gpu else "cpu")) | {"threads": config.threads}
    finished, seconds = _measured(recipes, here)
    needs = []
    for name, (cells, wrong) in plans.items():
        to_do = [cell for cell in cells if cell not in finished]
        used = {cell.dataset: datasets[cell.dataset] for cell in to_do}
        parts = [*machine, *used.values(), *{weights[recipes[cell].backbone] for cell in to_do}] if to_do else []
        cannot = wrong + [f"{one.what}: {one.state}; {one.remedy}" for one in parts if one.blocks]
        cannot += _too_little_disk([dataset for dataset, found in used.items() if found.state == MISSING])
        known = [seconds[_kind(cell)] for cell in to_do if _kind(cell) in seconds]
        hours = sum(known) / at_once / 3600 if known or not to_do else None
        downloads = [one.what for one in parts if one.state == MISSING]
        needs.append(Need(name, len(cells), len(cells) - len(to_do), hours, len(to_do) - len(known), downloads, cannot))
    return Report(machine, [*datasets.values()], [*weights.values()], needs)


def as_text(found: Report) -> str:
    findings = [*found.machine, *found.datasets, *found.weights]
    rows = [[one.what, one.state + (f"\n-> {one.remedy}" if one.remedy else "")] for one in findings]
    heads, align = ["suite", "cells", "to do", "hours", "can run"], ["left", "right", "right", "right", "left"]
    suites = tabulate(map(_row, found.suites), heads, disable_numparse=True, colalign=align)
    reasons = [f"{need.suite}: {why}" for need in found.suites for why in need.cannot]
    note = "Hours: mean times of the cells measured on this machine, without the features and images that cells share."
    return "\n".join([tabulate(rows, tablefmt="plain", disable_numparse=True), "", suites, "", *reasons, note])


def as_values(found: Report) -> dict:
    return {name: [one._asdict() for one in part] for name, part in found._asdict().items()}


def _row(need: Need) -> list[str]:
    hours = "not measured" if need.hours is None else f"{need.hours:.2g}" if need.hours < 100 else f"{need.hours:.0f}"
    if need.hours is not None and need.not_measured:
        hours += f" + {need.not_measured} cells not measured"
    can_run = "no" if need.cannot else "after downloads" if need.downloads else "yes"
    return [need.suite, str(need.cells), str(need.cells - need.finished), hours, can_run]


def _plan(suite: str, config: Config) -> tuple[list[Cell], list[str]]:
    """The cells of a suite, or why it has none."""

    @cache
    def folders(dataset: str):
        if dataset not in config.datasets:
            raise ConfigError(f"config: there is no data set {dataset}; add it to datasets.")
        return catalogue(dataset, config.datasets[dataset])

    try:
        return expand(load_suite(paths.suite_file(suite)), folders), []
    except BgadError as error:
        return [], [str(error).rstrip(".")]


def _kind(cell: Cell) -> tuple[str, str, int]:
    """Cells that take about equally long."""
    return cell.recipe, cell.method, cell.k


def _measured(recipes: dict[Cell, Recipe], here: dict) -> tuple[set[Cell], dict[tuple, float]]:
    """The cells that are finished and up to date, and the mean seconds of each ``_kind`` of cells trained ``here`` (device,
    processor, threads) with today's recipe."""
    finished, seconds, today = set(), defaultdict(list), Today()
    for cell, recipe in recipes.items():
        try:
            metrics = read_json(cell.folder / "metrics.json")
            if today.stale(cell, metrics) is None:
                finished.add(cell)
            if metrics["recipe_sha256"] == recipe.sha256 and here.items() <= metrics["environment"].items():
                seconds[_kind(cell)].append(float(metrics["timing"]["total_s"]))
        except (BgadError, AttributeError, KeyError, TypeError, ValueError):  # not finished, or damaged
            continue
    return finished, {kind: fmean(values) for kind, values in seconds.items()}


def _machine(config: Config, on_gpu: bool) -> tuple[list[Finding], int]:
    """What was found, and how many trainings run at once."""
    memory, cores = psutil.virtual_memory(), joblib.cpu_count()
    limit = MEMORY_LIMIT.read_text().strip() if MEMORY_LIMIT.exists() else ""
    free_mb = min(memory.available, int(limit) if limit.isdigit() else memory.available) // 10**6
    at_once = max(1, min(cores // config.threads, free_mb // TRAINING_MB))
    findings = [Finding("software", f"Python {platform.python_version()}, torch {importlib.metadata.version('torch')}")]
    if on_gpu:
        at_once = min(at_once, 100 // percent_of_gpu(config.gpu_mb))
        findings += [Finding("GPU", f"{name}, {memory_mb / 1000:.0f} GB") for name, memory_mb in devices.gpus()]
    elif config.device in ("auto", "cpu"):
        findings.append(Finding("GPU", "none, or not used"))
    else:
        remedy = "set device: auto in config/config.yaml, or install a driver and a torch that match"
        findings.append(Finding("GPU", f"none, but device is {config.device}", remedy, blocks=True))
    if not on_gpu and chain.describe() != "compiled":
        findings.append(Finding("flow", "not compiled", "install a C compiler (cc, gcc or clang) for faster trainings"))
    short = free_mb < TRAINING_MB
    remedy = f"a training needs {TRAINING_MB / 1000:.0f} GB; free some, or use a larger machine" if short else ""
    findings.append(Finding("memory", f"{free_mb / 1000:.1f} GB free", remedy, short))
    findings.append(Finding("cores", f"{cores}, for {at_once} trainings at once"))
    return [*findings, Finding("disk", f"{_free_mb() / 1000:.0f} GB free")], at_once


def _free_mb() -> int:
    return shutil.disk_usage(".").free // 10**6


def _too_little_disk(downloads: list[str]) -> list[str]:
    """Archives are kept, and images hardly shrink in one, so a download takes its size twice."""
    needed_mb, free_mb = sum(2 * _size_mb(name) for name in downloads), _free_mb()
    reason = f"disk: downloads fill {needed_mb / 1000:.1f} GB and {free_mb / 1000:.1f} GB are free; make room"
    return [reason] if needed_mb > free_mb else []


def _size_mb(dataset: str) -> int:
    preset = presets.dataset(dataset)
    return (preset.size_bytes or 0) // 10**6 if preset else 0


def _dataset(name: str, config: Config) -> Finding:
    what, path, folder = f"data set {name}", config.datasets[name].path, paths.DATASET.format(dataset=name)
    try:
        dict(catalogue(name, config.datasets[name]))  # reads every category
    except BgadError as error:
        return _faulty(what, error)
    if name == "mini" or path or Path(f"{folder}.complete").exists():
        return Finding(what, f"in {path or folder}" if name != "mini" else "generated")
    size = f"{_size_mb(name) / 1000:.1f} GB"
    return Finding(what, MISSING, f"the workflow downloads it ({size}), or set datasets.{name}.path to a copy")


def _weights(backbone: str, config: Config) -> Finding:
    what, local = f"weights of {backbone}", config.weights.get(backbone)
    if backbone in PACKAGED:
        return Finding(what, f"in the package {PACKAGED[backbone][0]}")
    try:
        found = at_hand(backbone, local)
    except BgadError as error:
        return _faulty(what, error)
    if local and not found:
        return Finding(what, f"weights.{backbone} is {local}, which is not a file", "correct the path", blocks=True)
    remedy = f"the workflow downloads them, or set weights.{backbone} to a local file"
    return Finding(what, f"in {found}") if found else Finding(what, MISSING, remedy)


def _faulty(what: str, error: BgadError) -> Finding:
    state, _, remedy = str(error).rstrip(".").partition("; ")
    return Finding(what, state.removeprefix("config: "), remedy or "correct it", blocks=True)
