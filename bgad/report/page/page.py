"""A suite's report as one page that opens from a file: reports/<suite>/report.html.

Verdicts and intervals are those of the table. The scripts in this folder draw filters, charts and the gallery; Plotly is
bundled in. The page depends only on the cells' folders, and the same cells give the same bytes.
"""

import base64
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import jinja2
import pandas as pd
from markdown_it import MarkdownIt
from plotly.offline import get_plotlyjs

from bgad.config import paths
from bgad.config.cells import Cell
from bgad.config.methods import display_name
from bgad.config.settings import MARGIN, Suite
from bgad.data.images import decode
from bgad.errors import BgadError, FileError
from bgad.evaluation.metrics import METRICS
from bgad.io import content_of, write_text
from bgad.report.bootstrap import with_images
from bgad.report.collect import (
    CELL,
    DONE,
    FAILED,
    HISTORY,
    Collected,
    collect,
    read_gallery,
    read_likelihoods,
    scores_of,
)
from bgad.report.plots.methods import methods
from bgad.report.plots.style import DOTS_PER_INCH, style
from bgad.report.stale import STALE
from bgad.report.tables.format import NAMES, escaped
from bgad.report.tables.published import verdict_lines
from bgad.report.tables.suite import summary

TEMPLATES = Path(__file__).parent
STYLES, SCRIPTS = ("page.css",), ("data.js", "address.js", "grid.js", "charts.js", "likelihoods.js", "gallery.js", "page.js")
LIMIT = 15_000_000  # bytes of the page: galleries get what Plotly's 5 MB, the metrics and the histograms leave
FRAME = 500_000  # bytes for styles, scripts and text
LIKELIHOODS = 1_500_000  # bytes of histograms
MAP_QUALITY = 75  # of the JPEG for a sheet of anomaly maps, a third of the PNG


def write_page(
    suite_name: str,
    suite: Suite,
    cells: list[Cell],
    output: Path,
    root: Path = Path(),
    left_out: Sequence[str] = (),
    margin: float = MARGIN,
) -> None:
    """Writes the page of ``cells`` (their folders under ``root``); ``left_out`` and ``margin`` as for the table.

    The page names cells without metrics, and images that are missing, damaged or beyond LIMIT. FileError if a metrics.json
    belongs to another cell.
    """
    write_text(output, page(suite_name, suite, cells, root, left_out, margin=margin))


def page(
    suite_name: str,
    suite: Suite,
    cells: list[Cell],
    root: Path = Path(),
    left_out: Sequence[str] = (),
    states: Mapping[Cell, str] | None = None,
    margin: float = MARGIN,
) -> str:
    """The page as text. ``states``: what to call unfinished cells instead of interrupted or not run, while a suite runs."""
    collected = replace(with_images(collect(cells, root)), margin=margin)
    collected.status.update({cell: state for cell, state in (states or {}).items() if collected.status.get(cell, DONE) != DONE})
    status = list(collected.status.values())
    lines, records = summary(collected)
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True)
    return environment.get_template("page.html").render(
        suite_name=suite_name,
        title=suite.title,
        question=suite.question.strip(),
        counts={
            "asked": len(status),
            "measured": status.count(DONE),
            "failed": sum(text.startswith(FAILED) for text in status),
            "stale": sum(text.startswith(STALE) for text in status),
        },
        verdicts=_html(verdict_lines(records)),
        methods=_png(collected, suite.title),
        summary=_html(lines),
        without_metrics={cell.folder.as_posix(): text for cell, text in collected.status.items() if text != DONE},
        notes={note: [cell.folder.as_posix() for cell in cells] for note, cells in collected.notes.items()},
        left_out=list(left_out),
        styles="".join(_text(name) for name in STYLES),
        plotly=get_plotlyjs(),
        scripts="".join(_text(name) for name in SCRIPTS),
        data=_for_script(_data(collected, root)),
    )


def _html(lines: list[str]) -> str:
    """Lines of a suite's table.md. A wide table scrolls on its own, and no interval is broken."""
    text = MarkdownIt("commonmark", {"html": False}).enable("table").render("\n".join(map(escaped, lines)))
    text = re.sub(r"(\[[+-]?[\d.]+), ([+-]?[\d.]+\])", "\\1,\u00a0\\2", text)
    text = text.replace("<table>", '<div class="wide" tabindex="0" role="region" aria-label="Table"><table>')
    return text.replace("</table>", "</table></div>")


def _png(collected: Collected, title: str) -> str:
    """The first plot as a data address."""
    content = io.BytesIO()
    with style():
        methods(collected, title).savefig(content, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode('ascii')}"


def _data(collected: Collected, root: Path) -> dict:
    """The data of the scripts. Rows name a cell by its place in ``cells``."""
    cells = list(collected.status)
    place = {tuple(vars(cell).values()): number for number, cell in enumerate(cells)}
    measured = collected.metrics[collected.metrics["status"] == DONE]
    values = {
        "names": {metric: NAMES[metric] for metric in METRICS},
        "cells": [_cell(cell, collected.status[cell]) for cell in cells],
        "metrics": _placed(measured, place, ["metric", "last", "best", "best_epoch"]),
        "by_type": _placed(collected.by_type, place, ["type", "known", "n", "image_auroc", "pixel_auroc"]),
        "history": _placed(collected.history, place, HISTORY[len(CELL) :]),
        "likelihoods": _likelihoods(collected, root),
    }
    room = LIMIT - FRAME - len(get_plotlyjs().encode()) - len(_for_script(values).encode())
    return values | _galleries(collected, root, room)


def _cell(cell: Cell, status: str) -> dict:
    named = {name: getattr(cell, name) for name in CELL[:7]} | {"method": display_name(cell.method)}
    return {**named, "status": status, "folder": cell.folder.as_posix()}


def _placed(table: pd.DataFrame, place: dict[tuple, int], columns: list[str]) -> list[list]:
    """Rows of ``columns``, each after its cell's place; None for nan."""
    rows = zip(table[CELL[:7]].itertuples(index=False), table[columns].itertuples(index=False), strict=True)
    return [[place[tuple(of)], *(_plain(value) for value in values)] for of, values in rows]


def _plain(value):
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 4)
    return value.item() if hasattr(value, "item") else value


def _most_telling(collected: Collected) -> list[tuple[int, Cell]]:
    """Measured cells by place, in the order in which their images get room on the page: from each category a cell with the most
    known anomalies on the seen split, then one of each other split, smaller k, other method and seed."""

    def rank(numbered: tuple[int, Cell]):
        _, cell = numbered
        return cell.seed, cell.split != "seen", -cell.k, cell.method != "bgad"

    first: dict[tuple, int] = {}
    ordered = []
    for number, cell in sorted(((n, c) for n, c in enumerate(collected.status) if collected.status[c] == DONE), key=rank):
        of_category = first[cell.dataset, cell.category] = first.get((cell.dataset, cell.category), -1) + 1
        ordered.append((of_category, number, cell))
    return [(number, cell) for _, number, cell in sorted(ordered, key=lambda of: of[:2])]


def _likelihoods(collected: Collected, root: Path) -> dict[int, dict | None]:
    found: dict[int, dict | None] = {}
    room = LIKELIHOODS
    for number, cell in _most_telling(collected):
        try:
            of_cell = read_likelihoods(root / cell.folder / "likelihoods.json")
        except BgadError:  # no metric depends on it
            continue
        values = of_cell.model_dump() if of_cell else None
        room -= len(_for_script(values))
        if room < 0:
            break
        found[number] = values
    return found


def _galleries(collected: Collected, root: Path, room: int) -> dict:
    """Galleries by cell in ``room`` bytes; their sheets as data addresses, which they name by place; how many more cells have a
    gallery; and the cells whose gallery is missing or damaged, with the reason."""
    found: dict[int, dict] = {}
    sheets: dict[str, int] = {}
    broken: dict[int, str] = {}
    without = 0
    for number, cell in _most_telling(collected):
        try:
            record, addresses = _gallery(root / cell.folder)
        except BgadError as error:
            broken[number] = str(error).replace(f"{root / cell.folder}/", "")
            continue
        size = len(_for_script(record)) + sum(len(address) for address in set(addresses) - set(sheets))
        if size > room:
            without += 1
            continue
        room -= size
        found[number] = record | {"sheets": [sheets.setdefault(address, len(sheets)) for address in addresses]}
    return {"galleries": found, "sheets": list(sheets), "without_gallery": without, "broken": broken}


def _gallery(folder: Path) -> tuple[dict, list[str]]:
    """The record of a cell's gallery, with its images as (path, type, anomalous, score), and its sheets as data addresses.

    FileError if any of it is missing or damaged.
    """
    record = read_gallery(folder / "gallery" / "gallery.json")
    addresses = [_address(folder / "gallery" / name) for name in paths.GALLERY[:3]]
    images = scores_of(folder)
    if record.count != len(images):
        raise FileError(f"{folder / 'scores.csv'}: does not have the images of gallery.json; run its cell again.")
    return record.model_dump() | {"images": images}, addresses


def _address(path: Path) -> str:
    """A sheet as a data address, anomaly maps as a smaller JPEG. FileError if it is missing or damaged."""
    try:
        content = content_of(path)
        image = decode(io.BytesIO(content), path, "RGB" if path.suffix == ".jpg" else "L")
    except (OSError, BgadError) as error:
        raise FileError(f"{path}: missing or damaged; run its cell again.") from error
    if path.name == "maps.png":
        smaller = io.BytesIO()
        image.save(smaller, "JPEG", quality=MAP_QUALITY)
        content = smaller.getvalue()
    kind = "png" if content.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _for_script(values: dict | None) -> str:
    """JSON that cannot end the script element around it."""
    text = json.dumps(values, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _text(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8") + "\n"
