"""Measured results, kept in git, and the tables that pages make of them.

reports/measured/<suite>.csv has rows of the suite's table.csv, <suite>.json next to it where they come from. A page's tables
are between two comments, `results:begin <suite> <view> <column>=<value>,<value> ...` and `results:end`; what is around them
is written by hand. The views are `results` and `differences`. Columns are those of the CSV, and choose its rows.
"""

import csv
import io
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

from bgad.config import paths
from bgad.config.cells import Cell
from bgad.config.provenance import method_sha256
from bgad.config.settings import load_recipe
from bgad.errors import BgadError, FileError
from bgad.io import read_json, write_json, write_text
from bgad.report.bootstrap import with_images
from bgad.report.collect import DONE, Collected, collect
from bgad.report.statistics import HELPS, HURTS
from bgad.report.tables.claim import claim_section
from bgad.report.tables.epochs import epochs_section
from bgad.report.tables.format import NAMES, SHOWN, literal, markdown, with_interval
from bgad.report.tables.results import result_tables, results_section

NAMED = 10  # cells without metrics
PAGES = ("README.md", "reports/README.md")
COLUMNS = ["section", "recipe", "dataset", "kind", "k", "method", "row", "metric"]
COLUMNS += ["n", "asked", "last", "last_low", "last_high"]
COLUMNS += ["best", "against", "difference", "difference_low", "difference_high", "verdict_difference", "note"]
BLOCK = re.compile(r"(<!-- results:begin (?P<suite>\S+) (?P<view>\S+)(?P<chosen>[^\n]*?) -->\n).*?(<!-- results:end -->)", re.S)


def suites_of(pages: Iterable[Path]) -> list[str]:
    """The suites that the blocks of ``pages`` name, each once."""
    return list(dict.fromkeys(block["suite"] for page in pages for block in BLOCK.finditer(_text(page))))


def store(suite: str, cells: list[Cell], root: Path = Path()) -> str:
    """Keeps the results of ``cells`` (their folders under ``root``) in reports/measured, and says what it did.

    Only rows of which every cell is measured and up to date. A record with more rows stays: delete it to replace it.
    FileError if a metrics.json belongs to another cell.
    """
    collected = with_images(collect(cells, root))
    missing = [f"  {cell.folder.as_posix()}: {status}" for cell, status in collected.status.items() if status != DONE]
    done = len(cells) - len(missing)
    of_sections = [section(collected)[1] for section in (results_section, claim_section, epochs_section)]
    rows = [record for records in of_sections for record in records if _is_complete(record)]
    table, facts = _files(suite, root)
    before = len(_rows(table)) if table.exists() else 0
    if len(rows) < max(before, 1):
        said = f"{suite}: kept {table} with its {before} rows; results/ has {len(rows)}, from {done} of {len(cells)} cells."
    else:
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(table, text.getvalue())
        write_json(facts, {"suite": suite, "cells": len(cells), "measured": done} | _facts(collected))
        said = f"{suite}: wrote {len(rows)} rows from {done} of {len(cells)} cells to {table}."
    more = [f"  and {len(missing) - NAMED} more"] if len(missing) > NAMED else []
    return "\n".join([said, *(["Without metrics:", *missing[:NAMED], *more] if missing else [])])


def write_pages(pages: Iterable[Path], root: Path = Path()) -> None:
    """Writes the blocks of ``pages`` from reports/measured under ``root``. A block of a suite without a record stays as it is.

    FileError for an unknown view or column, or a damaged record.
    """
    for page in pages:
        write_text(page, written(_text(page), page, root))


def written(text: str, page: Path, root: Path = Path()) -> str:
    """The text of a page with its blocks as they have to be."""

    def block(found: re.Match) -> str:
        table, _ = _files(found["suite"], root)
        if not table.exists():
            return found[0]
        chosen = dict(choice.partition("=")[::2] for choice in found["chosen"].split())
        if found["view"] not in VIEWS or not set(chosen) <= set(COLUMNS):
            views = ", ".join(VIEWS)
            raise FileError(f"{page}: {found[1].strip()}: the views are {views}; the columns are those of {table}.")
        section, tables = VIEWS[found["view"]]
        rows = [row for row in _rows(table) if row["section"] == section]
        rows = [row for row in rows if all(row[column] in values.split(",") for column, values in chosen.items())]
        lines = [origin(found["suite"], root), *tables(rows)] if rows else ["Not measured yet."]
        return "\n".join([found[1].rstrip("\n"), *lines, found[5]])

    return BLOCK.sub(block, text)


def origin(suite: str, root: Path = Path()) -> str:
    """Where the results of a suite come from, and whether recipes and code are still the same, as a paragraph."""
    path = _files(suite, root)[1]
    try:
        facts = read_json(path)
        hashes = {f"recipe `{name}`": sha for name, sha in facts["recipes"].items()}
        hashes |= {f"code of {name}": sha for name, sha in facts["sources"].items()}
        today = {f"recipe `{name}`": _recipe_sha256(name, root) for name in facts["recipes"]}
        today |= {f"code of {name}": method_sha256(name) for name in facts["sources"]}
        said = f"Suite `{suite}`, {facts['measured']} of {facts['cells']} cells, {facts['date']}"
        said = "; ".join([said, *facts["made_with"], *(f"{what} {sha[:12]}" for what, sha in hashes.items())])
    except (KeyError, TypeError, AttributeError) as error:
        raise FileError(f"{path}: damaged; delete it and run make results-page again.") from error
    changed = [what for what, sha in hashes.items() if sha != today[what]]
    earlier = f" **Measured with an earlier version:** since then, {' and '.join(changed)} changed." if changed else ""
    return f"{said}.{earlier}"


def difference_tables(rows: list[dict]) -> list[str]:
    """A table for each metric, kind of split, and known or unseen types: rows are categories, columns methods and k. An entry
    is bold if its interval excludes 0."""
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    tables: dict[str, dict[str, dict[str, str]]] = {}
    for metric in SHOWN:
        for row in (row for row in rows if row["metric"] == metric):
            types = next((of for of in (", known types", ", unseen types") if row["row"].endswith(of)), "")
            label = row["row"].removesuffix(types)
            table = tables.setdefault(f"{NAMES[metric]}, {row['kind']}{types}", {})
            label = label if len(datasets) == 1 else f"{row['dataset']}: {label}"
            bold = "**" * (row["verdict_difference"] in (HELPS, HURTS))
            of = f"{row['method']} - {row['against']}, k = {row['k']}"
            table.setdefault(label, {})[of] = f"{bold}{with_interval(row, 'difference')}{bold}"
    lines = []
    for head, table in tables.items():
        columns = list(dict.fromkeys(column for entries in table.values() for column in entries))
        # The records have the means first; below the categories they are easier to find.
        labels = sorted(table, key=lambda label: "mean over " in label)
        body = [[literal(label), *(table[label].get(column, " ") for column in columns)] for label in labels]
        lines += ["", *markdown([head, *columns], body)]
    return lines


# For each view the section of the CSV that it shows, and its Markdown.
VIEWS: dict[str, tuple[str, Callable[[list[dict]], list[str]]]] = {
    "results": ("setting", result_tables),
    "differences": ("claim", difference_tables),
}


def _facts(collected: Collected) -> dict:
    origins = collected.origins
    measured = [cell for cell, status in collected.status.items() if status == DONE]
    newest = max((collected.root / cell.folder / "metrics.json").stat().st_mtime for cell in measured)
    made_with = []
    for column, name in {"git_commit": "commit", "cpu": "", "device": "device", "torch": "torch"}.items():
        values = sorted(origins[column].dropna().astype(str).unique())
        made_with += [f"{name} {', '.join(values)}".strip()] if values else []
    return {
        "date": datetime.fromtimestamp(newest, UTC).date().isoformat(),
        "made_with": made_with,
        "recipes": dict(zip(origins["recipe"], origins["recipe_sha256"], strict=True)),
        "sources": dict(zip(origins["method"], origins["source_sha256"], strict=True)),
    }


def _is_complete(record: dict) -> bool:
    """Whether a row has a value and lacks no cell."""
    value = record.get("last") or record.get("difference")
    return bool(value) and record["n"] == record["asked"] and " complete of " not in record["row"]


def _recipe_sha256(recipe: str, root: Path) -> str:
    try:
        return load_recipe(root / paths.recipe_file(recipe)).sha256
    except BgadError:
        return ""


def _files(suite: str, root: Path) -> tuple[Path, Path]:
    stem = root / paths.MEASURED.format(suite=suite)
    return stem.with_suffix(".csv"), stem.with_suffix(".json")


def _rows(table: Path) -> list[dict]:
    rows = list(csv.DictReader(io.StringIO(_text(table), newline="")))
    if not rows or set(rows[0]) != set(COLUMNS):
        raise FileError(f"{table}: damaged; delete it and run make results-page again.")
    return rows


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{path}: cannot be read ({error}).") from error
