"""The report of a suite as a table: the verdict and the results in Markdown, every number in CSV.

It depends only on the cells' folders and has no date, so the same cells give the same bytes.
"""

import csv
import io
import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bgad.config import paths
from bgad.config.cells import Cell
from bgad.config.settings import MARGIN, Suite
from bgad.io import write_text
from bgad.report.bootstrap import with_images
from bgad.report.collect import DONE, FAILED, INTERRUPTED, NOT_RUN, Collected, collect
from bgad.report.stale import STALE
from bgad.report.tables.claim import claim_section
from bgad.report.tables.epochs import epochs_section
from bgad.report.tables.format import NAMES, Section, escaped, literal, markdown
from bgad.report.tables.published import published_section, verdict_lines
from bgad.report.tables.recipes import recipes_section
from bgad.report.tables.records import full_test_records, released_records, type_records
from bgad.report.tables.results import results_section

NAMED = 5  # cells that a note or a status lists
COLUMNS = ["section", "recipe", "dataset", "kind", "k", "method", "row", "metric", "n", "asked"]
COLUMNS += ["last", "last_sd", "last_low", "last_high", "last_covers"]
COLUMNS += ["best", "best_sd", "best_low", "best_high", "best_covers"]
COLUMNS += ["published_method", "published", "published_sd", "last_minus_published", "best_minus_published"]
COLUMNS += ["verdict_last", "verdict_best", "source"]
COLUMNS += ["types", "last_at_k0", "last_minus_k0"]
COLUMNS += ["against", "difference", "difference_low", "difference_high", "difference_covers", "verdict_difference", "note"]


def write_table(
    suite_name: str,
    suite: Suite,
    cells: list[Cell],
    output_md: Path,
    output_csv: Path,
    plots_folder: Path,
    root: Path = Path(),
    left_out: Sequence[str] = (),
    margin: float = MARGIN,
) -> None:
    """Writes the table of ``cells`` (their folders under ``root``) as Markdown, and with every number as CSV.

    ``plots_folder`` has the plots of bgad.report.plots.suite. ``left_out`` lists what the suite's hard-* cannot have, each with
    its reason. ``margin`` (percentage points) is the verdicts'. FileError if a metrics.json belongs to another cell.
    """
    collected = replace(with_images(collect(cells, root)), margin=margin)
    lines, records = summary(collected)
    for more in (type_records, full_test_records, released_records, noticed_records, missing_records):
        records += more(collected)
    write_text(output_csv, _csv(records))
    folder = Path(output_md).parent
    lines = [*_head(suite, collected, records), *lines, *_missing(collected), *_noticed(collected)]
    lines += _plots(Path(plots_folder), folder)
    lines += _origin(suite_name, collected, left_out, Path(os.path.relpath(output_csv, folder)).as_posix())
    write_text(output_md, "\n".join(map(escaped, lines)) + "\n")


def summary(collected: Collected) -> Section:
    """What people read of a suite, for its table and its page: each section after a blank line."""
    lines: list[str] = []
    records: list[dict] = []
    for section in (published_section, results_section, claim_section, recipes_section, epochs_section):
        section_lines, section_records = section(collected)
        lines += ["", *section_lines] if section_lines else []
        records += section_records
    return lines, records


def _head(suite: Suite, collected: Collected, records: list[dict]) -> list[str]:
    status = list(collected.status.values())
    counts = [f"{sum(s.startswith(FAILED) for s in status)} failed", f"{status.count(NOT_RUN)} not run"]
    if INTERRUPTED in status:
        counts.insert(1, f"{status.count(INTERRUPTED)} interrupted")
    if stale := sum(s.startswith(STALE) for s in status):
        counts.insert(1, f"{stale} stale")
    measured = f"**{status.count(DONE)} of {len(status)} cells measured; {', '.join(counts)}.**"
    lines = [f"# {suite.title}", "", suite.question.strip(), "", *verdict_lines(records), "", measured]
    for column, what in {"recipe_sha256": "versions of it", "weights_sha256": "backbone weights"}.items():
        versions = collected.origins[collected.origins[column] != ""].groupby("recipe")[column].nunique()
        for recipe, n in versions[versions > 1].items():
            lines += ["", f"**Mixed:** the cells of recipe `{recipe}` were trained with {n} different {what}."]
    return lines


def _missing(collected: Collected) -> list[str]:
    """The cells without metrics, failed ones first; of many, only some of each status."""
    without = {cell: status for cell, status in collected.status.items() if status != DONE}
    if not without:
        return []
    by_status: dict[str, list[Cell]] = {}
    for cell in sorted(without, key=lambda cell: not without[cell].startswith(FAILED)):
        by_status.setdefault(without[cell].partition(":")[0], []).append(cell)
    shown = []
    for cells in by_status.values():
        for cell in cells[:NAMED]:
            path = (cell.folder / "metrics.json").as_posix()
            shown.append([f"`{path}`", literal(without[cell]), f"`snakemake --cores all {shlex.quote(path)}`"])
    lines = ["", "## Missing, stale and failed cells", "", *markdown(["cell", "reason", "to run it"], shown, left=3)]
    more = len(without) - len(shown)
    return lines + (["", f"And {more} more, all listed in table.csv."] if more else [])


def missing_records(collected: Collected) -> list[dict]:
    records = []
    for cell, status in collected.status.items():
        if status != DONE:
            fields = {"recipe": cell.recipe, "dataset": cell.dataset, "k": cell.k, "method": cell.method}
            kind, path = cell.split.partition("-")[0], (cell.folder / "metrics.json").as_posix()
            records.append({"section": "missing", **fields, "kind": kind, "row": path, "note": status})
    return records


def _noticed(collected: Collected) -> list[str]:
    """A line for each note with the cells that it concerns; of many cells, only the first of each category."""
    lines = [f"- {literal(note)} {_concerned(cells)}" for note, cells in collected.notes.items()]
    return ["", "## Noticed", "", *lines] if lines else []


def noticed_records(collected: Collected) -> list[dict]:
    return [{"section": "noticed", "n": len(cells), "note": note} for note, cells in collected.notes.items()]


def _concerned(cells: list[Cell]) -> str:
    firsts = {(cell.dataset, cell.category): cell for cell in reversed(cells)}
    named = cells if len(cells) <= NAMED else [*firsts.values()][::-1][:NAMED]
    more = f" and {len(cells) - len(named)} more" if len(named) < len(cells) else ""
    return f"({', '.join(f'`{cell.folder.as_posix()}`' for cell in named)}{more})"


def _plots(folder: Path, start: Path) -> list[str]:
    """The first plot, and links to all of them."""
    at = Path(os.path.relpath(folder, start))
    captions = {f"{name}.svg": caption for name, caption in paths.PLOTS.items()} | {paths.EXAMPLES: "CutPaste examples"}
    links = [f"[{caption}]({(at / name).as_posix()})" for name, caption in captions.items()]
    return ["", "## Plots", "", f"!{links[0]}", "", f"{'; '.join(links)}. Each is also there as PNG."]


def _origin(suite_name: str, collected: Collected, left_out: Sequence[str], table: str) -> list[str]:
    recipes = dict.fromkeys(cell.recipe for cell in collected.status)
    facts = [f"Suite `{suite_name}`", f"recipes {', '.join(f'`{recipe}`' for recipe in recipes)}"]
    for column, name in {"device": "device", "torch": "torch", "git_commit": "commit"}.items():
        counts = collected.origins[column].dropna().astype(str).value_counts().sort_index()
        texts = [literal(f"{value} ({n} cells)" if len(counts) > 1 else value) for value, n in counts.items()]
        facts += [f"{name} {', '.join(texts)}"] if texts else []
    lines = [f"Not in the suite, for lack of images: {literal('; '.join(left_out))}.", ""] if left_out else []
    first = next((cell for cell, status in collected.status.items() if status == DONE), next(iter(collected.status)))
    path = (first.folder / "metrics.json").as_posix()
    return [
        "",
        "## Where the numbers come from",
        "",
        *lines,
        f"{'; '.join(facts)}. Every number is a line of [{table}]({table}), which also has each hard type, the differences for "
        f"each category, {NAMES['released_pro']} (as the released code counts it; {NAMES['aupro']} is exact), k = 0 on the "
        "whole test set, other methods' published numbers, and the metrics of the released test command. A line's recipe, data "
        f"set, split, k, method, category and seeds name its cells, such as `{path}`. That file has the unrounded metrics, the "
        "best epoch and the hashes of split, recipe, weights and code. "
        f"`snakemake --cores all -f {shlex.quote(path)}` makes the cell again.",
    ]


def _csv(records: list[dict]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()
