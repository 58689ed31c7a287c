"""A cell's model card, as Hugging Face reads it: YAML front matter with the results, then card.md filled in.

Names of folders can hold anything, so whatever the template shows is escaped for Markdown, and the front matter is written by
huggingface_hub's own safe YAML.
"""

import math
import re
import shlex
from pathlib import Path

import jinja2
import pandas as pd
import torch
from huggingface_hub import EvalResult, ModelCardData
from markupsafe import Markup

from bgad.config.cells import Cell
from bgad.config.methods import display_name
from bgad.config.settings import Recipe
from bgad.data.splits import Split, file_of
from bgad.errors import BgadError
from bgad.io import read_json, write_text
from bgad.methods.predict import read_model
from bgad.report.collect import DONE, Collected, collect
from bgad.report.tables.format import NAMES, NONE

METHODS = {
    "bgad": "BGAD (Yao et al., CVPR 2023), which learns from the known anomalies",
    "bgad-wo": "BGAD without anomalies (Yao et al., CVPR 2023)",
    "nf": "the conditional normalizing flow that BGAD (Yao et al., CVPR 2023) builds on, by maximum likelihood alone",
}
# Of data sets whose licence binds what is made of them; presets.yaml has each in words.
LICENCES = {"mvtec": "cc-by-nc-sa-4.0", "btad": "cc-by-sa-4.0"}
HUB_METRICS = {"image_auroc": "roc_auc", "pixel_auroc": "roc_auc", "aupro": "aupro", "released_pro": "pro"}
RULES = {"last": "last epoch", "best": "best epoch, chosen on the test set"}


def write_card(folder: Path, output: Path) -> None:
    """Writes the card of the finished cell in ``folder``; BgadError if it is not finished, or damaged."""
    write_text(output, card(folder))


def card(folder: Path) -> str:
    """The card as text. The known anomalies are listed where the cell's split file is still in the project.

    A stale cell has a card too: it stands alone there, with the hashes and the commit that made it.
    """
    cell, root = Cell.located(folder)
    collected = collect([cell], root, stale_too=True)
    if collected.status[cell] != DONE:
        status = collected.status[cell]
        raise BgadError(f"{folder}: not a finished cell: {status}; run snakemake --cores all {_code(_metrics(cell))}.")
    model, metrics = read_model(folder, torch.device("cpu")), read_json(folder / "metrics.json")
    recipe = Recipe.model_validate(model["recipe"])
    split = _split(root / file_of(recipe, vars(cell)), metrics["split_sha256"])
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        finalize=_escaped,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    body = environment.get_template("card.md").render(
        cell=cell,
        method=METHODS.get(cell.method, display_name(cell.method)),
        is_flow=cell.method in METHODS,
        recipe=recipe,
        threshold=None if math.isnan(model["threshold"]) else f"{model['threshold']:.4f}",
        anomalies="anomaly" if cell.k == 1 else "anomalies",
        of_types=_of_types(cell),
        known=split.known(cell.k) if split else (),
        figures=_figures(collected.figures),
        full_test=_figures(collected.full_test),
        by_type=[_type_row(row) for row in collected.by_type.itertuples()],
        folder=_code(cell.folder.as_posix()),
        metrics_file=_code(_metrics(cell)),
        hashes={key: metrics[key] for key in metrics if key.endswith("_sha256")},
        counts=metrics["counts"],
        environment=metrics["environment"],
    )
    return f"---\n{_front_matter(cell, collected)}\n---\n\n{body}"


def _front_matter(cell: Cell, collected: Collected) -> str:
    results = [
        EvalResult(
            task_type="anomaly-detection",
            dataset_type=cell.dataset,
            dataset_name=f"{cell.dataset}, {cell.category}",
            dataset_config=cell.category,
            dataset_split=test_set,
            dataset_args={"split": cell.split, "k": cell.k, "seed": cell.seed},
            metric_type=HUB_METRICS[row.metric],
            metric_name=f"{NAMES[row.metric]} in percent, {text}",
            metric_value=getattr(row, rule),
        )
        for test_set, figures in (("test", collected.figures), ("full_test", collected.full_test))
        for row in figures.dropna(subset="last").itertuples()
        for rule, text in RULES.items()
    ]
    return ModelCardData(
        license=LICENCES.get(cell.dataset, "unknown"),
        library_name="bgad-suite",
        tags=["anomaly-detection", *(["normalizing-flow", "bgad"] if cell.method in METHODS else []), cell.method],
        datasets=[cell.dataset],
        metrics=sorted({result.metric_type for result in results}),
        model_name=f"{cell.method}, {cell.dataset}/{cell.category}, {cell.split}, k {cell.k}, seed {cell.seed}",
        eval_results=results,
    ).to_yaml()


def _of_types(cell: Cell) -> str:
    if not cell.k:
        return ""
    if cell.split == "seen":
        return ", drawn over all defect types"
    return f", all of the defect type {cell.split.removeprefix('hard-')}, which the test set has none of"


def _figures(figures: pd.DataFrame) -> list[tuple[str, str, str, str | int]]:
    """Rows of a table: metric, last, best, and the epoch of the best."""
    return [
        (NAMES[row.metric], _percent(row.last), _percent(row.best), NONE if math.isnan(row.best_epoch) else int(row.best_epoch))
        for row in figures.itertuples()
    ]


def _type_row(row) -> tuple:
    return row.type, "known" if row.known else "unseen", row.n, _percent(row.image_auroc), _percent(row.pixel_auroc)


def _percent(value: float) -> str:
    return NONE if math.isnan(value) else f"{value:.2f}"


def _split(path: Path, sha256: str) -> Split | None:
    split = Split.load(path) if path.exists() else None
    return split if split and split.sha256 == sha256 else None


def _metrics(cell: Cell) -> str:
    return (cell.folder / "metrics.json").as_posix()


def _escaped(value: object) -> str:
    """Text in which nothing is Markdown or HTML, on one line; _code's is left as it is."""
    if isinstance(value, Markup):
        return value
    return re.sub(r"([\\`*_\[\]<>|#&~$])", r"\\\1", " ".join(str(value).split()))


def _code(word: str) -> Markup:
    """A word of a shell command, for a block of code."""
    return Markup(shlex.quote(" ".join(word.split())))  # in a block of code nothing but a line can end it
