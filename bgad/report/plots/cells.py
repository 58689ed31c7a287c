"""Plots of single cells: every category's seeds, every cell's ROC and precision-recall curve, every cell's training curve."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import precision_recall_curve, roc_curve

from bgad.config.cells import Cell
from bgad.config.methods import PAPER_METHODS, display_name
from bgad.errors import BgadError
from bgad.report import published
from bgad.report.averages import Setting, by_seed, settings, types_text
from bgad.report.collect import DONE, Collected, scores_of
from bgad.report.plots.style import (
    COLOURS,
    INK,
    PALE,
    SERIES,
    category_panels,
    finish,
    handle,
    head_columns,
    looks,
    nothing_to_show,
    panels,
    titled,
)
from bgad.report.tables.format import SHOWN, column_names

DASHES = ("-", "--", ":")
LIMITS = (-0.01, 1.01)


def by_category(collected: Collected, title: str) -> Figure:
    """A panel for each metric and kind of split: each category's seeds at the last epoch, and their mean."""
    title = titled(title, "every category")
    metrics = collected.metrics
    if metrics["last"].isna().all():
        return nothing_to_show(title, "No cell of this suite is measured yet, so there is nothing to show.")
    lines: dict[str, None] = {}

    def draw(axis, part: pd.DataFrame, y_of, panel: tuple, look: dict) -> None:
        dataset, kind, metric, _, k, method = panel
        if not part.empty:
            _categories(axis, part, y_of, look)
        if not set(published.categories_of_mean(dataset)) <= set(part["category"]):
            return
        for one in published.lookup(dataset, "mean", method, kind, "", k, metric)[:1]:
            axis.axvline(one.value, ls="--", lw=1, color=INK)
            lines[f"published mean over all categories: {one.paper}, k = {one.k} (best)"] = None

    figure, axes, handles = category_panels(metrics, 0.13, draw)
    for axis in axes[-1]:
        axis.set_xlabel("percent")
    handles.append(handle("mean over seeds", color=PALE, marker="|", ms=11, mew=2, ls=""))
    handles += [handle(text, color=INK, ls="--", lw=1) for text in lines]
    caption = "A dot is one seed at its last epoch"
    if (metrics["kind"] == "hard").any():
        caption += "; in hard splits, its mean over the splits of the known types"
        fewer: dict[str, None] = {}
        for setting, part in settings(metrics):
            for category, of_category in part.groupby("category", sort=False):
                if text := types_text(of_category):
                    fewer[f"{category} with k = {setting.k} {text}"] = None
        caption += f" ({', '.join(fewer)})" if fewer else ""
    if (metrics["status"] != DONE).any():
        caption += ". † some of the category's cells are missing; its means are over the other seeds"
    return finish(figure, title, f"{caption}.", handles)


def training_curves(collected: Collected, title: str) -> Figure:
    """A panel for each category and metric: every cell's evaluations, with the last and the best marked."""
    title = titled(title, "training curves")
    history = collected.history[collected.history["method"].isin(PAPER_METHODS)]  # a detector has no curve
    if history.empty:
        return nothing_to_show(
            title, "No measured cell has a history of evaluations (history.csv), so there is nothing to show."
        )
    drawn = history[history["kind"] == "seen"] if (history["kind"] == "seen").any() else history
    order = [Setting(*values) for values in drawn[["recipe", "dataset", "kind", "k", "method"]].drop_duplicates().to_numpy()]
    names = column_names(order)
    look = looks(names)
    groups = list(drawn.groupby(["dataset", "category"], sort=False))
    figure, axes = panels(len(groups), len(SHOWN), 3.9, [1.55] * len(groups), sharex=True)
    head_columns(axes, SHOWN)
    for row, ((dataset, category), of_group) in enumerate(groups):
        several = drawn["dataset"].nunique() > 1
        axes[row][0].set_ylabel(f"{dataset}\n{category}" if several else category, fontweight="bold")
        for column, metric in enumerate(SHOWN):
            _curves(axes[row][column], of_group.dropna(subset=metric), metric, look)
    for axis in axes[-1]:
        axis.set_xlabel("meta epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles = [handle(name, color=look[key]["color"]) for key, name in names.items()]
    handles.append(handle("last", color=PALE, marker="o", ms=5, ls=""))
    handles.append(handle("best", color=PALE, marker="^", ms=7, mfc="none", ls=""))
    cells = [part for _, part in drawn.groupby([*SERIES, "dataset", "category", "split", "seed"])]
    caption = f"Percent on the test set. A line is one cell; there are {len(cells)}. Each panel has its own scale"
    if len(drawn) < len(history):
        caption += ". Hard splits are not drawn"
    return finish(figure, title, f"{caption}.", handles)


def curves(collected: Collected, title: str) -> Figure:
    """Two panels for each setting, ROC and precision against recall: a line for each cell, from its scores.csv."""
    title = titled(title, "ROC and precision-recall curves")
    measured = [cell for cell, status in collected.status.items() if status == DONE]
    by_setting: dict[Setting, list[Cell]] = {}
    for cell in measured:
        setting = Setting(cell.recipe, cell.dataset, cell.split.partition("-")[0], cell.k, cell.method)
        by_setting.setdefault(setting, []).append(cell)
    drawn = {setting: _curves_of(collected, cells) for setting, cells in by_setting.items()}
    drawn = {setting: of for setting, of in drawn.items() if of}
    if not drawn:
        return nothing_to_show(title, "No measured cell has scores (scores.csv) of both classes, so there is nothing to show.")
    abreast = 1 if len(drawn) < 4 else 2
    rows = -(-len(drawn) // abreast)
    figure, axes = panels(rows, 2 * abreast, 3.2, [2.7] * rows)
    flat = [axis for row in axes for axis in row]
    categories = list(dict.fromkeys(cell.category for of in drawn.values() for cell in of))
    look = {
        name: {"color": COLOURS[place % len(COLOURS)], "ls": DASHES[place // len(COLOURS) % len(DASHES)]}
        for place, name in enumerate(categories)
    }
    for place, (setting, of_setting) in enumerate(drawn.items()):
        roc, precision_recall = flat[2 * place : 2 * place + 2]
        for cell, (fpr, tpr, precision, recall) in of_setting.items():
            roc.plot(fpr, tpr, lw=0.8, alpha=0.7, **look[cell.category])
            # A step, as precision between two thresholds is not the mean of theirs.
            precision_recall.plot(recall, precision, lw=0.8, alpha=0.7, drawstyle="steps-post", **look[cell.category])
        name = f"{display_name(setting.method)}, k = {setting.k}"
        roc.set_title(f"{name} ({setting.dataset}, {setting.kind}, {setting.recipe})", loc="left", fontweight="bold")
        roc.set(xlabel="false positive rate", ylabel="true positive rate", xlim=LIMITS, ylim=LIMITS)
        precision_recall.set(xlabel="recall", ylabel="precision", xlim=LIMITS, ylim=LIMITS)
    for axis in flat[2 * len(drawn) :]:
        axis.set_axis_off()
    count = sum(map(len, drawn.values()))
    caption = (
        f"Test images at the last epoch. A line is one cell (category, split and seed); there are {count}. Nothing is averaged"
    )
    if count < len(measured):
        caption += f". {len(measured) - count} measured cells have no usable scores.csv, or images of one class only"
    handles = [handle(name, **of) for name, of in look.items()]
    return finish(figure, title, f"{caption}.", handles, columns=3 * abreast)


def _curves_of(collected: Collected, cells: list[Cell]) -> dict[Cell, tuple]:
    """Of each cell with scores of both classes: false and true positive rates, precision and recall."""
    found = {}
    for cell in cells:
        try:
            scores = scores_of(collected.root / cell.folder)
        except BgadError:  # no metric depends on it
            continue
        labels, values = [row.anomalous for row in scores], [row.score for row in scores]
        if len({*labels}) == 2:
            fpr, tpr, _ = roc_curve(labels, values)
            precision, recall, _ = precision_recall_curve(labels, values)
            found[cell] = (fpr, tpr, precision, recall)
    return found


def _categories(axis, part: pd.DataFrame, y_of, look: dict) -> None:
    last = by_seed(part, "last")
    for category in last.index:
        y = y_of(category)
        seeds = last.loc[category].dropna()
        axis.plot(seeds, [y] * len(seeds), ls="", ms=3.5, alpha=0.6, mew=0, **look)
        if len(seeds) > 1:
            axis.plot([seeds.mean()], [y], ls="", marker="|", ms=9, mew=2, color=look["color"])


def _curves(axis, of_group: pd.DataFrame, metric: str, look: dict) -> None:
    for key, part in of_group.groupby([*SERIES, "split", "seed"], sort=False):
        colour = look[key[:3]]["color"]
        part = part.sort_values("epoch")
        axis.plot(part["epoch"], part[metric], lw=1, alpha=0.7, color=colour)
        axis.plot(part["epoch"].iloc[-1:], part[metric].iloc[-1:], marker="o", ms=4, color=colour)
        best = part.loc[part[metric].idxmax()]
        axis.plot([best["epoch"]], [best[metric]], marker="^", ms=6, mfc="none", color=colour)
