"""Plots of means over categories: against the number of known anomalies, and for known against unseen types."""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bgad.report import published
from bgad.report.averages import complete_categories, over_categories, types_against_k0
from bgad.report.collect import Collected
from bgad.report.plots.style import COLOURS, INK, PALE, finish, handle, head_columns, nothing_to_show, panels, titled
from bgad.report.tables.format import SHOWN

BGAD = ("bgad", "bgad-wo")  # one line, whose k = 0 is bgad-wo
TYPE_GROUPS = {
    ("seen", True): "known types (seen splits)",
    ("seen", False): "unseen types (seen splits)",
    ("hard", False): "unseen types (hard splits)",
}
APART = 0.04  # half the distance between the marks of one dumbbell
BARS = "Bars span the lowest to the highest seed."


def auroc_by_k(collected: Collected, title: str) -> Figure:
    """BGAD's metrics against k, at the last epoch: panels for each recipe and data set, a line for each kind of split."""
    title = titled(title, "metrics against the number of known anomalies")
    metrics = collected.metrics[collected.metrics["method"].isin(BGAD)]
    if metrics["last"].isna().all():
        return nothing_to_show(title, "No cell of BGAD is measured yet, so there is nothing to show.")
    rows = list(metrics.groupby(["recipe", "dataset"], sort=False))
    kinds, counts = list(metrics["kind"].unique()), sorted(metrics["k"].unique())
    figure, axes = panels(len(rows), len(SHOWN), 3.7, [2.3] * len(rows), sharex=True)
    head_columns(axes, SHOWN)
    captions: dict[str, None] = {}
    dashed: dict[str, None] = {}
    for of_row, ((recipe, dataset), of_group) in zip(axes, rows, strict=True):
        of_row[0].set_ylabel(f"{dataset}, recipe {recipe}\npercent")
        for axis, metric in zip(of_row, SHOWN, strict=True):
            for i, kind in enumerate(kinds):
                of_metric = of_group[(of_group["kind"] == kind) & (of_group["metric"] == metric)]
                of_metric, categories, over = _the_same_at_every_k(of_metric)
                if categories:
                    captions[f"{dataset}, {kind} splits: mean over {over}."] = None
                    x_of = {k: place + 0.12 * (i - (len(kinds) - 1) / 2) for place, k in enumerate(counts)}
                    _line(axis, of_metric, categories, x_of, COLOURS[i])
                    dashed |= dict.fromkeys(_published_lines(axis, of_metric, categories))
    if not captions:
        return nothing_to_show(title, "No category is complete at every k, so there is no mean over categories to show.")
    for axis in axes[-1]:
        axis.set_xticks(range(len(counts)), [str(k) for k in counts])
        axis.set_xlim(-0.4, len(counts) - 0.6)
        axis.set_xlabel("known anomalies k")
    handles = [handle(f"{kind} splits", color=COLOURS[i], marker="o") for i, kind in enumerate(kinds)]
    handles += [handle(text, color=INK, ls="--", lw=1) for text in dashed]
    caption = f"The last epoch. {' '.join(captions)} k = 0 is bgad-wo, every other k is bgad. {BARS}"
    return finish(figure, title, caption, handles)


def known_unseen(collected: Collected, title: str) -> Figure:
    """Types that training knew and types that it did not know at each k, joined to the same types at k = 0."""
    title = titled(title, "known against unseen defect types")
    types = types_against_k0(collected)
    if types.empty:
        return nothing_to_show(title, "No measured cell knows an anomaly, so every defect type is unseen.")
    there = set(zip(types["kind"], types["known"], strict=True))
    groups = {key: name for key, name in TYPE_GROUPS.items() if key in there}
    counts = sorted(types["k"].unique())
    suites = list(types.groupby(["recipe", "dataset"], sort=False))
    metrics = SHOWN[:2]
    figure, axes = panels(len(suites), 2, 4.6, [3.0] * len(suites), sharex=True, sharey="col")
    head_columns(axes, metrics)
    for row, ((recipe, dataset), of_suite) in enumerate(suites):
        axes[row][0].set_ylabel(f"{dataset}, recipe {recipe}\nAUROC of the last epoch, percent")
        for column, metric in enumerate(metrics):
            axis = axes[row][column]
            for i, (kind, known) in enumerate(groups):
                x = 0.22 * (i - (len(groups) - 1) / 2)
                for k in counts:
                    same = of_suite[["kind", "known", "k"]].eq([kind, known, k]).all(axis=1)
                    of = of_suite[same].dropna(subset=metric)
                    if not of.empty:
                        _dumbbell(axis, counts.index(k) + x, of, metric, COLOURS[i])
            axis.set_xticks(range(len(counts)), [str(k) for k in counts])
            axis.set_xlim(-0.5, len(counts) - 0.5)
            axis.grid(axis="x", visible=False)
    for axis in axes[0]:  # the panels of a column share their scale; below the marks is room for the counts
        low, high = axis.get_ylim()
        axis.set_ylim(low - 0.12 * (high - low), high)
    for axis in axes[-1]:
        axis.set_xlabel("known anomalies k")
    handles = [handle(name, color=COLOURS[i], marker="o", ls="") for i, name in enumerate(groups.values())]
    handles.append(handle("the same types at k = 0", color=PALE, marker="o", mfc="white", ls=""))
    caption = (
        "Each type against all normal test images; mean over a cell's types, then over cells. The numbers at the bottom count "
        f"the types. A white mark needs a cell with k = 0 for every type. {BARS}"
    )
    if not types["known"].all() and types["known"].any():
        return finish(figure, title, caption, handles, columns=2)
    kind = "known" if types["known"].any() else "unseen"
    return finish(figure, title, f"Here every type is {kind}. {caption}", handles, columns=2)


def _the_same_at_every_k(of_metric: pd.DataFrame) -> tuple[pd.DataFrame, list[str], str]:
    """What every point of a line averages over, so that only k changes along it: the rows of the hard types that every k has,
    the categories that are complete in them at every k, and both in words."""
    points = of_metric.assign(point=of_metric.groupby(["k", "method"]).ngroup())
    at = points.groupby(["category", "split"])["point"].transform("nunique")
    same = of_metric[at == points["point"].nunique()]
    complete = [set(complete_categories(part)) for _, part in same.groupby(["k", "method"])]
    categories = [category for category in same["category"].unique() if all(category in of for of in complete)]

    n, asked = len(categories), of_metric["category"].nunique()
    words = (
        f"{n} {'category' if n == 1 else 'categories'}"
        if n == asked
        else f"{n} of {asked} categories, those complete at every k"
    )
    types, every = (
        len(of.loc[of["category"].isin(categories), ["category", "split"]].drop_duplicates()) for of in (same, of_metric)
    )
    return same, categories, words + (f", over {types} of {every} types, those there at every k" if types < every else "")


def _line(axis: Axes, of_metric: pd.DataFrame, categories: list[str], x_of: dict[int, float], colour: str) -> None:
    means = {k: over_categories(part, categories, "last") for k, part in of_metric.groupby("k")}
    points = [(x_of[k], of.mean(), of.min(), of.max()) for k, of in means.items() if len(of)]
    if points:
        x, mean, low, high = np.array(points).T
        bars = np.maximum([mean - low, high - mean], 0)
        axis.errorbar(x, mean, yerr=bars, capsize=3, color=colour, marker="o", ms=4.5, lw=1.4)


def _published_lines(axis: Axes, of_metric: pd.DataFrame, categories: list[str]) -> list[str]:
    """Draws BGAD's published means and returns their names; none if our mean is over other categories."""
    dataset, kind, metric = of_metric[["dataset", "kind", "metric"]].iloc[0]
    if set(categories) != set(published.categories_of_mean(dataset)):
        return []
    names = []
    for k in sorted(of_metric["k"].unique()):
        for one in published.lookup(dataset, "mean", "bgad", kind, "", int(k), metric)[:1]:
            axis.axhline(one.value, ls="--", lw=1, color=INK)
            left = axis.get_yaxis_transform()
            axis.text(0.02, one.value, f"{one.value:.1f}", transform=left, va="bottom", color=INK)
            names.append(f"published mean: {one.paper}, k = {k} (its best evaluations)")
    return names


def _dumbbell(axis: Axes, x: float, of: pd.DataFrame, metric: str, colour: str) -> None:
    """From the types' mean at k = 0 (white) to their mean at k (filled, with the range over seeds)."""
    cells = of.groupby(["category", "split", "seed"])[[metric, f"{metric}_k0"]].mean()
    at_k = cells[metric].mean()
    at_k0 = math.nan if of[f"{metric}_k0"].isna().any() else cells[f"{metric}_k0"].mean()
    seeds = cells[metric].groupby("seed").mean()
    before, after = x - APART, x + APART  # or small gains would hide the white mark
    axis.plot([before, after], [at_k0, at_k], color=colour, lw=1, alpha=0.6)
    axis.plot([before], [at_k0], color=colour, marker="o", ms=6, mfc="white", ls="")
    low, high = min(seeds.min(), at_k), max(seeds.max(), at_k)
    axis.errorbar([after], [at_k], yerr=[[at_k - low], [high - at_k]], color=colour, marker="o", ms=6, capsize=3)
    n = len(of[["category", "type"]].drop_duplicates())
    axis.text(x, 0.02, str(n), transform=axis.get_xaxis_transform(), ha="center", color=colour, fontsize=8.5)
