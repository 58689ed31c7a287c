"""Plots what choosing the epoch on the test set adds: best minus last, for every category and setting."""

from collections.abc import Callable
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bgad.config.methods import PAPER_METHODS
from bgad.report.averages import by_seed
from bgad.report.collect import DONE, Collected
from bgad.report.plots.style import PALE, category_panels, finish, handle, nothing_to_show, titled
from bgad.report.statistics import Spread
from bgad.report.tables.epochs import evaluations_text, few_evaluations, gains, nothing_to_choose
from bgad.report.tables.format import SHOWN

BAND: dict[str, Any] = {"lw": 5, "alpha": 0.25, "solid_capstyle": "butt"}


def best_epoch(collected: Collected, title: str) -> Figure:
    """A panel for each metric, data set and kind of split: the gains of each category's cells with mean and interval."""
    title = titled(title, "what choosing the epoch on the test set adds")
    table = gains(collected)
    reason = nothing_to_choose(table)
    if reason:
        return nothing_to_show(title, reason)
    table = table[table["method"].isin(PAPER_METHODS)]  # a detector is evaluated once
    figure, axes, handles = category_panels(table, 0.15, _gains)
    for axis, metric in zip(axes[-1], SHOWN, strict=True):
        # The cells fill the panels. The interval of two seeds can be many times as wide as their distance.
        width = 1.25 * (table.loc[table["metric"] == metric, "gain"].max() or 1)
        axis.set_xlim(-0.03 * width, width)
        axis.set_xlabel("best - last, percentage points")
    handles.append(handle("mean over seeds", color=PALE, marker="|", ms=11, mew=2, ls=""))
    handles.append(handle("its 95 % interval over seeds", color=PALE, **BAND))
    return finish(figure, title, _caption(table), handles)


def _gains(axis: Axes, part: pd.DataFrame, y_of: Callable[[str], float], _panel: tuple, look: dict) -> None:
    for category, of_category in part.groupby("category", sort=False):
        y = y_of(category)
        cells = of_category["gain"].dropna()
        mean = Spread.of(by_seed(of_category, "gain"))
        low, high = mean.interval
        axis.plot([max(low, 0), high], [y, y], color=look["color"], **BAND)
        axis.plot(cells, [y] * len(cells), ls="", ms=4, alpha=0.6, mew=0, **look)
        axis.plot([mean.mean], [y], ls="", marker="|", ms=9, mew=2, color=look["color"])


def _caption(table: pd.DataFrame) -> str:
    texts = ["A dot is one cell: its best evaluation on the test set minus its last, never below 0."]
    counts = {recipe: evaluations_text(of) for recipe, of in table.groupby("recipe", sort=False)}
    several = len(counts) > 1
    words = [text + f" with recipe {recipe}" * several for recipe, text in counts.items()]
    texts.append(f"Evaluations per cell: {', '.join(words)}.")
    texts.append(few_evaluations(table))
    texts.append("Intervals are Student's t over several seeds, cut at 0 and at the panel's edge.")
    if (table["kind"] == "hard").any():
        texts.append("Hard splits have a cell for each known type; a seed is their mean.")
    if (table["status"] != DONE).any():
        texts.append("† some of the category's cells are missing.")
    return " ".join(text for text in texts if text)
