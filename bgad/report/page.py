"""A suite's report as one page that opens from a file: reports/<suite>/report.html, made from the cells' folders alone.

Words and intervals are the table's; filters, charts and the gallery are the scripts in page/, with Plotly bundled in. The
same cells give the same bytes.
"""

import base64
import csv
import hashlib
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path

import jinja2
import pandas as pd
from markdown_it import MarkdownIt
from PIL import Image
from plotly.offline import get_plotlyjs
from scipy.special import stdtrit

from bgad import gallery
from bgad.cells import Cell
from bgad.detectors import display_name
from bgad.errors import BgadError
from bgad.files import read_json, write_text
from bgad.report.collect import CELL, DONE, FAILED, HISTORY, METRICS, Collected, collect
from bgad.report.summary import CONFIDENCE
from bgad.report.table_format import NAMES
from bgad.report.table_published import published_section, verdict_lines
from bgad.settings import Suite

TEMPLATES = Path(__file__).with_name("page")
STYLES, SCRIPTS = ("page.css",), ("data.js", "grid.js", "charts.js", "gallery.js", "page.js")
PICTURES = 7_000_000  # bytes of galleries in the page, as text; with Plotly's 5 MB the page stays under 15 MB
LIKELIHOODS = 1_500_000  # bytes of histograms
MAP_QUALITY = 75  # of the JPEG that a sheet of anomaly maps becomes in the page: a third of the PNG


def write_page(
    suite_name: str, suite: Suite, cells: list[Cell], output: Path, root: Path = Path(), left_out: Sequence[str] = ()
) -> None:
    """Writes the page of ``cells`` (their folders under ``root``); ``left_out`` as for the table.

    BgadError if a cell's metrics.json is another cell's.
    """
    write_text(output, page(suite_name, suite, cells, root, left_out))


def page(suite_name: str, suite: Suite, cells: list[Cell], root: Path = Path(), left_out: Sequence[str] = ()) -> str:
    """The page as text."""
    collected = collect(cells, root)
    status = list(collected.status.values())
    _, records = published_section(collected)
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True)
    return environment.get_template("page.html").render(
        suite_name=suite_name,
        title=suite.title,
        question=suite.question.strip(),
        counts={
            "asked": len(status),
            "measured": status.count(DONE),
            "failed": sum(text.startswith(FAILED) for text in status),
        },
        verdicts=MarkdownIt("commonmark", {"html": False}).render("\n".join(verdict_lines(records))),
        compared=[record for record in records if record["section"] == "published"],
        others=sum(record["section"] == "others" for record in records),
        left_out=list(left_out),
        names=NAMES,
        styles="".join(_text(name) for name in STYLES),
        plotly=get_plotlyjs(),
        scripts="".join(_text(name) for name in SCRIPTS),
        data=_for_script(_data(collected, root)),
    )


def _data(collected: Collected, root: Path) -> dict:
    """What the scripts draw from. Cells are named by their place in ``cells``."""
    cells = list(collected.status)
    place = {(*map(getattr, [cell] * 7, CELL[:7]),): number for number, cell in enumerate(cells)}
    galleries, sheets, without_gallery = _galleries(collected, root)
    measured = collected.figures[collected.figures["status"] == DONE]
    return {
        "metrics": {metric: NAMES[metric] for metric in METRICS},
        "t": [None, None, *(round(float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)), 6) for n in range(2, 101))],
        "cells": [_cell(cell, collected.status[cell]) for cell in cells],
        "figures": _placed(measured, place, ["metric", "last", "best", "best_epoch"]),
        "by_type": _placed(collected.by_type, place, ["type", "known", "n", "image_auroc", "pixel_auroc"]),
        "history": _placed(collected.history, place, HISTORY[len(CELL) :]),
        "likelihoods": _likelihoods(collected, root),
        "galleries": galleries,
        "sheets": sheets,
        "without_gallery": without_gallery,
    }


def _cell(cell: Cell, status: str) -> dict:
    named = {name: getattr(cell, name) for name in CELL[:7]} | {"method": display_name(cell.method)}
    return {**named, "status": status, "folder": cell.folder.as_posix()}


def _placed(table: pd.DataFrame, place: dict[tuple, int], columns: list[str]) -> list[list]:
    """Rows of ``columns``, each with its cell's place before it; None where there is no figure."""
    rows = zip(table[CELL[:7]].itertuples(index=False), table[columns].itertuples(index=False), strict=True)
    return [[place[tuple(of)], *(_plain(value) for value in values)] for of, values in rows]


def _plain(value):
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 4)
    return value.item() if hasattr(value, "item") else value


def _most_telling(collected: Collected) -> list[tuple[int, Cell]]:
    """Measured cells by place, in the order in which pictures are kept while there is room: of each category first a cell of
    the most known anomalies on the seen split, then one of each of its other splits, of fewer, of other methods and seeds."""

    def rank(numbered: tuple[int, Cell]):
        _, cell = numbered
        return cell.seed, cell.split != "seen", -cell.k, cell.method != "bgad"

    first: dict[tuple, int] = {}
    ordered = []
    for number, cell in sorted(((n, c) for n, c in enumerate(collected.status) if collected.status[c] == DONE), key=rank):
        of_category = first[cell.dataset, cell.category] = first.get((cell.dataset, cell.category), -1) + 1
        ordered.append((of_category, number, cell))
    return [(number, cell) for _, number, cell in sorted(ordered, key=lambda of: of[:2])]


def _likelihoods(collected: Collected, root: Path) -> dict[int, dict]:
    found, room = {}, LIKELIHOODS
    for number, cell in _most_telling(collected):
        path = root / cell.folder / "likelihoods.json"
        if path.exists():
            values = read_json(path)
            room -= len(json.dumps(values))
            if room < 0:
                break
            found[number] = values
    return found


def _galleries(collected: Collected, root: Path) -> tuple[dict[int, dict], list[str], int]:
    """Galleries by cell, the sheets that they name by place, as data addresses, and how many more there was no room for."""
    found, sheets, room, without = {}, {}, PICTURES, 0
    for number, cell in _most_telling(collected):
        folder = root / cell.folder / "gallery"
        if not (folder / "gallery.json").exists():
            continue
        record, files = read_json(folder / "gallery.json"), gallery.FILES[:3]
        new = {name: _address(folder / name) for name in files}
        size = sum(len(address) for address in new.values() if address not in sheets)
        if size > room:
            without += 1
            continue
        room -= size
        for address in new.values():
            sheets.setdefault(address, len(sheets))
        with (root / cell.folder / "scores.csv").open(encoding="utf-8", newline="") as file:
            images = [[row["path"], row["type"], int(row["anomalous"]), float(row["score"])] for row in csv.DictReader(file)]
        found[number] = {**record, "sheets": [sheets[new[name]] for name in files], "images": images}
    return found, list(sheets), without


def _address(path: Path) -> str:
    """A sheet as a data address; of anomaly maps a smaller JPEG. BgadError if it is damaged."""
    try:
        content = path.read_bytes()
        if path.name == "maps.png":
            with Image.open(io.BytesIO(content)) as picture:
                smaller = io.BytesIO()
                picture.convert("L").save(smaller, "JPEG", quality=MAP_QUALITY)
            content = smaller.getvalue()
    except OSError as error:
        raise BgadError(f"{path}: missing or damaged ({error}); run its cell again.") from error
    kind = "png" if content.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _for_script(values: dict) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(values, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _text(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8") + "\n"


def digest(text: str) -> str:
    """What tells one state of a page from another."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
