"""Plots of single cells: every category's seeds, and every cell's training curve."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bgad.config.methods import PAPER_METHODS
from bgad.report import published
from bgad.report.collect import DONE, SHOWN, Collected
from bgad.report.plots.style import (
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
    series_names,
)
from bgad.report.statistics import Setting, by_seed, settings, types_text


def by_category(collected: Collected, title: str) -> Figure:
    """A panel for each metric and kind of split: seeds of each category (last), the mean of last, the mean of best."""
    title = f"{title}: every category"
    figures = collected.figures
    if figures["last"].isna().all():
        return nothing_to_show(title, "No cell of this suite is measured yet, so there is nothing to show.")
    lines: dict[str, None] = {}

    def draw(axis, part: pd.DataFrame, y_of, panel: tuple, look: dict) -> None:
        dataset, kind, metric, _, k, method = panel
        if not part.empty:
            _categories(axis, part, y_of, look)
        for one in published.lookup(dataset, "mean", method, kind, "", k, metric)[:1]:
            axis.axvline(one.value, ls="--", lw=1, color=INK)
            lines[f"published mean over all categories: {one.paper}, k = {one.k} (best)"] = None

    figure, axes, handles = category_panels(figures, 0.13, draw)
    for axis in axes[-1]:
        axis.set_xlabel("percent")
    handles.append(handle("mean of last", color=PALE, marker="|", ms=11, mew=2, ls=""))
    handles.append(handle("mean of best", color=PALE, marker="D", ms=6, mfc="none", ls=""))
    handles += [handle(text, color=INK, ls="--", lw=1) for text in lines]
    caption = "A dot is the last epoch of one seed"
    if (figures["kind"] == "hard").any():
        caption += "; in hard splits, the mean over the types that are known in their turn"
        fewer: dict[str, None] = {}
        for setting, part in settings(figures):
            for category, of_category in part.groupby("category", sort=False):
                if text := types_text(of_category):
                    fewer[f"{category} with k = {setting.k} {text}"] = None
        caption += f" ({', '.join(fewer)})" if fewer else ""
    if (figures["status"] != DONE).any():
        caption += ". † some cells of the category are missing: its means are over the seeds that are there"
    return finish(figure, title, f"{caption}.", handles)


def training_curves(collected: Collected, title: str) -> Figure:
    """A panel for each category and metric: every cell's evaluations, with its last and its best marked."""
    title = f"{title}: training curves"
    history = collected.history[collected.history["method"].isin(PAPER_METHODS)]  # a detector has no curve
    if history.empty:
        return nothing_to_show(
            title, "No measured cell has a history of evaluations (history.csv), so there is nothing to show."
        )
    drawn = history[history["kind"] == "seen"] if (history["kind"] == "seen").any() else history
    order = [Setting(*values) for values in drawn[["recipe", "dataset", "kind", "k", "method"]].drop_duplicates().to_numpy()]
    names = series_names(order)
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
    caption = f"Percent on the test set; a line is one cell, {len(cells)} in all. Each panel has its own scale"
    if len(drawn) < len(history):
        caption += "; hard splits are not drawn"
    return finish(figure, title, f"{caption}.", handles)


def _categories(axis, part: pd.DataFrame, y_of, look: dict) -> None:
    last, best = by_seed(part, "last"), by_seed(part, "best")
    for category in last.index:
        y = y_of(category)
        seeds = last.loc[category].dropna()
        axis.plot(seeds, [y] * len(seeds), ls="", ms=3.5, alpha=0.6, mew=0, **look)
        axis.plot([seeds.mean()], [y], ls="", marker="|", ms=9, mew=2, color=look["color"])
        axis.plot([best.loc[category].mean()], [y], ls="", marker="D", ms=5, mfc="none", color=look["color"])


def _curves(axis, of_group: pd.DataFrame, metric: str, look: dict) -> None:
    for key, part in of_group.groupby([*SERIES, "split", "seed"], sort=False):
        colour = look[key[:3]]["color"]
        part = part.sort_values("epoch")
        axis.plot(part["epoch"], part[metric], lw=1, alpha=0.7, color=colour)
        axis.plot(part["epoch"].iloc[-1:], part[metric].iloc[-1:], marker="o", ms=4, color=colour)
        best = part.loc[part[metric].idxmax()]
        axis.plot([best["epoch"]], [best[metric]], marker="^", ms=6, mfc="none", color=colour)
