"""The report of a suite as a table, in Markdown and CSV.

It depends only on the cells' folders and has no date, so the same cells give the same bytes.
"""

import csv
import io
import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from bgad.config import paths
from bgad.config.cells import Cell
from bgad.config.settings import Suite
from bgad.io import write_text
from bgad.report.collect import DONE, FAILED, INTERRUPTED, NOT_RUN, Collected, collect
from bgad.report.stale import STALE
from bgad.report.tables.claim import claim_section
from bgad.report.tables.epochs import epochs_section
from bgad.report.tables.format import escaped, literal, markdown
from bgad.report.tables.published import published_section, verdict_lines
from bgad.report.tables.recipes import recipes_section
from bgad.report.tables.released import released_section
from bgad.report.tables.sections import full_test_section, glance_section, settings_section, types_section

NAMED = 5  # cells that a note lists
COLUMNS = ["section", "recipe", "dataset", "kind", "k", "method", "row", "metric", "n", "asked"]
COLUMNS += ["last", "last_sd", "last_low", "last_high", "best", "best_sd", "best_low", "best_high"]
COLUMNS += ["published_method", "published", "published_sd", "last_minus_published", "best_minus_published"]
COLUMNS += ["verdict_last", "verdict_best", "source"]
COLUMNS += ["types", "last_at_k0", "last_minus_k0"]
COLUMNS += ["against", "difference", "difference_low", "difference_high", "verdict_difference", "note"]


def write_table(
    suite_name: str,
    suite: Suite,
    cells: list[Cell],
    output_md: Path,
    output_csv: Path,
    plots_folder: Path,
    root: Path = Path(),
    left_out: Sequence[str] = (),
) -> None:
    """Writes the table of ``cells`` (their folders under ``root``) as Markdown and, with the same numbers, as CSV.

    ``plots_folder`` has the plots of bgad.report.plots.suite. ``left_out`` lists what the suite's hard-* cannot have, each with
    its reason. FileError if a metrics.json belongs to another cell.
    """
    collected = collect(cells, root)
    in_markdown = _with_literal_names(collected)
    lines, records = [], []
    for section in SECTIONS:
        section_lines, section_records = section(collected)
        if in_markdown:
            section_lines, _ = section(in_markdown)
        lines += ["", *section_lines] if section_lines else []
        records += section_records
    lines += ["", *_plots(Path(plots_folder), Path(output_md).parent)]
    lines += ["", *_trace(collected, Path(output_csv), Path(output_md).parent)]
    write_text(output_csv, _csv(records))
    lines = [*_head(suite_name, suite, collected, records, left_out), *lines]
    write_text(output_md, "\n".join(map(escaped, lines)) + "\n")


def _with_literal_names(collected: Collected) -> Collected | None:
    """The tables with categories and types as Markdown has to have them; None if these are the same."""
    if all(literal(name) == name for cell in collected.status for name in (cell.category, cell.split)):
        return None
    tables = {name: table for name, table in vars(collected).items() if isinstance(table, pd.DataFrame)}
    return replace(
        collected,
        **{
            name: table.assign(**{column: table[column].map(literal) for column in ("category", "split", "known_type")})
            for name, table in tables.items()
        },
    )


def _head(suite_name: str, suite: Suite, collected: Collected, records: list[dict], left_out: Sequence[str]) -> list[str]:
    status = list(collected.status.values())
    counts = [f"{sum(s.startswith(FAILED) for s in status)} failed", f"{status.count(NOT_RUN)} not run"]
    if INTERRUPTED in status:
        counts.insert(1, f"{status.count(INTERRUPTED)} interrupted")
    if stale := sum(s.startswith(STALE) for s in status):
        counts.insert(1, f"{stale} stale")
    recipes = dict.fromkeys(cell.recipe for cell in collected.status)
    return [
        f"# {suite.title}",
        "",
        suite.question.strip(),
        "",
        f"**{status.count(DONE)} of {len(status)} cells measured; {', '.join(counts)}.**",
        "",
        *verdict_lines(records),
        "",
        f"- Suite: `{suite_name}`; recipes: {', '.join(f'`{recipe}`' for recipe in recipes)}",
        *_origin_lines(collected),
        *([f"- Not in the suite, for lack of images: {literal('; '.join(left_out))}"] if left_out else []),
        "",
        "All metrics are in percent: the mean ± standard deviation (n - 1) over seeds, or the value of a single seed. Every "
        "metric has two values. **last** is the last epoch: what you get without looking at the test set. **best** is the "
        "maximum over the evaluations on the test set, taken for each metric and cell separately. It is optimistic, but BGAD's "
        "published numbers follow this rule, so it is shown for comparison. Means over categories are taken per seed first, "
        "and the deviation is over these means. **†** marks a value with missing cells.",
    ]


def _origin_lines(collected: Collected) -> list[str]:
    origins, lines = collected.origins, []
    for column, name in {"device": "Device", "torch": "torch", "git_commit": "Commit"}.items():
        counts = origins[column].dropna().astype(str).value_counts().sort_index()
        if len(counts):
            several = len(counts) > 1
            texts = [literal(f"{value} ({n} cells)" if several else value) for value, n in counts.items()]
            lines.append(f"- {name}: {', '.join(texts)}")
    for column, what in {"recipe_sha256": "versions of it", "weights_sha256": "backbone weights"}.items():
        versions = origins[origins[column] != ""].groupby("recipe")[column].nunique()
        for recipe, n in versions[versions > 1].items():
            lines.append(f"- **Mixed:** the cells of recipe `{recipe}` were trained with {n} different {what}.")
    return lines


def _noticed_section(collected: Collected) -> tuple[list[str], list[dict]]:
    """A line for each note with the cells that it concerns; of many cells, only the first of each category."""
    lines = [f"- {literal(note)} {_concerned(cells)}" for note, cells in collected.notes.items()]
    records = [{"section": "noticed", "n": len(cells), "note": note} for note, cells in collected.notes.items()]
    return (["## Noticed", "", *lines] if lines else []), records


def _concerned(cells: list[Cell]) -> str:
    firsts = {(cell.dataset, cell.category): cell for cell in reversed(cells)}
    named = cells if len(cells) <= NAMED else [*firsts.values()][::-1][:NAMED]
    more = f" and {len(cells) - len(named)} more" if len(named) < len(cells) else ""
    return f"({', '.join(f'`{cell.folder.as_posix()}`' for cell in named)}{more})"


def _missing_section(collected: Collected) -> tuple[list[str], list[dict]]:
    lines, shown, records = ["## Missing, stale and failed cells", ""], [], []
    for cell, status in collected.status.items():
        if status != DONE:
            path = (cell.folder / "metrics.json").as_posix()
            shown.append([f"`{path}`", literal(status), f"`snakemake --cores all {shlex.quote(path)}`"])
            fields = {"recipe": cell.recipe, "dataset": cell.dataset, "k": cell.k, "method": cell.method}
            kind = cell.split.partition("-")[0]
            records.append({"section": "missing", **fields, "kind": kind, "row": path, "note": status})
    if not shown:
        return [*lines, "None: every cell is measured."], []
    return [*lines, *markdown(["cell", "reason", "to run it"], shown, left=3)], records


def _plots(folder: Path, start: Path) -> list[str]:
    lines = ["## Plots"]
    for name, caption in paths.PLOTS.items():
        link = Path(os.path.relpath(folder / name, start)).as_posix()
        lines += ["", f"![{caption}]({link}.svg)", "", f"{caption} ([SVG]({link}.svg), [PNG]({link}.png))"]
    link, caption = Path(os.path.relpath(folder / paths.EXAMPLES, start)).as_posix(), "Known anomalies after CutPaste"
    return [*lines, "", f"![{caption}]({link})", "", f"{caption} ([PNG]({link}))"]


def _trace(collected: Collected, output_csv: Path, start: Path) -> list[str]:
    first = next((cell for cell, status in collected.status.items() if status == DONE), next(iter(collected.status)))
    path = (first.folder / "metrics.json").as_posix()
    table = Path(os.path.relpath(output_csv, start)).as_posix()
    return [
        "## How to trace a number back",
        "",
        f"Every number of ours is in a line of [{table}]({table}). Recipe, data set, kind of split, k and method, with the "
        f"category and the seeds, name its cells, such as `{path}`. That file has the unrounded metrics and the epoch of the "
        "best one. `split_sha256`, `recipe_sha256`, `weights_sha256`, `source_sha256` and `git_commit` identify the split, "
        "recipe, backbone weights and code behind them. Next to it, `history.csv` has every evaluation and `scores.csv` every "
        f"image's score. `snakemake --cores all -f {shlex.quote(path)}` makes the cell again.",
    ]


SECTIONS = (
    glance_section,
    published_section,
    claim_section,
    recipes_section,
    epochs_section,
    settings_section,
    types_section,
    full_test_section,
    released_section,
    _noticed_section,
    _missing_section,
)


def _csv(records: list[dict]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()
