"""Plots of means over categories: against the number of known anomalies, and of known against unseen types."""

import math
from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure

from bgad import published
from bgad.collect import METRICS, Collected
from bgad.plot_style import COLOURS, INK, PALE, finish, handle, head_columns, nothing_to_show, panels
from bgad.summary import RULES, complete_categories, over_categories, types_against_k0
from bgad.table_format import NAMES

RULE_NAMES = {"last": "last epoch", "best": "best evaluation on the test set"}
LINE = ["recipe", "dataset", "kind"]


def auroc_by_k(collected: Collected, title: str) -> Figure:
    """Every metric against k: a line for each recipe, data set and kind of split, last above best."""
    title = f"{title}: figures against the number of known anomalies"
    figures = collected.figures
    lines = list(figures.groupby(LINE, sort=False))
    if figures["last"].isna().all():
        return nothing_to_show(title, "No cell of this suite is measured yet, so there is nothing to show.")

    counts = sorted(figures["k"].unique())
    figure, axes = panels(2, len(METRICS), 3.7, [2.5, 2.5], sharex=True, sharey="col")
    head_columns(axes)
    handles, captions, drawn = [], [], set()
    several = {name: figures[name].nunique() > 1 for name in ("recipe", "dataset")}
    for i, (key, of_line) in enumerate(lines):
        label = ", ".join([f"{key[2]} splits", *(key[j] for j, name in enumerate(several) if several[name])])
        look = {"color": COLOURS[i % len(COLOURS)], "marker": "o", "ms": 4.5, "lw": 1.4}
        shift = 0.06 * (i - (len(lines) - 1) / 2)
        means_over = {}
        for column, metric in enumerate(METRICS):
            of_metric = of_line[of_line["metric"] == metric]
            categories = _complete_at_every_k(of_metric)
            if not categories:
                continue
            means_over[metric] = len(categories)
            for row, rule in enumerate(RULES):
                for method, points in _series(of_metric, categories, rule):
                    x = [counts.index(k) + shift for k in points["k"]]
                    spread = (points["mean"] - points["low"], points["high"] - points["mean"])
                    one = look | ({"marker": "X", "ms": 6} if method == "nf" else {})
                    axes[row][column].errorbar(x, points["mean"], yerr=spread, capsize=3, **one)
                    drawn.add((label, method == "nf"))
                for k, value, paper in _published_means(key, of_metric, categories):
                    axes[row][column].axhline(value, ls="--", lw=1, color=INK)
                    left = axes[row][column].get_yaxis_transform()
                    axes[row][column].text(0.02, value, f"{value:.1f}", transform=left, va="bottom", color=INK)
                    drawn.add((f"published mean of {paper}, k = {k} (best of its evaluations)", None))
        if means_over:
            captions.append(_means_caption(label, means_over, of_line["category"].nunique()))
        for nf in (False, True):
            if (label, nf) in drawn:
                handles.append(handle(label + (", nf" if nf else ""), **look | ({"marker": "X", "ls": ""} if nf else {})))
    handles += [handle(text, color=INK, ls="--", lw=1) for text, kind in sorted(drawn, key=str) if kind is None]
    for row, rule in enumerate(RULES):
        axes[row][0].set_ylabel(f"{RULE_NAMES[rule]}\npercent")
    for axis in axes[-1]:
        axis.set_xticks(range(len(counts)), [str(k) for k in counts])
        axis.set_xlim(-0.4, len(counts) - 0.6)
        axis.set_xlabel("known anomalies k")
    if not captions:
        return nothing_to_show(title, "No category is complete for every k, so there is no mean over categories to show.")
    caption = f"{' '.join(captions)} k = 0 is bgad-wo, every other k bgad. {_BARS}"
    return finish(figure, title, caption, handles)


def known_unseen(collected: Collected, title: str) -> Figure:
    """Types that training knew and did not know at each k, joined to the same types at k0."""
    title = f"{title}: known against unseen defect types"
    types = types_against_k0(collected)
    if types.empty:
        return nothing_to_show(title, "No measured cell knows an anomaly, so every defect type is unseen.")
    groups = [("seen", True), ("seen", False), ("hard", False)]
    names = ["known types (seen splits)", "unseen types (seen splits)", "unseen types (hard splits)"]
    counts = sorted(types["k"].unique())
    suites = list(types.groupby(["recipe", "dataset"], sort=False))
    metrics = METRICS[:2]
    figure, axes = panels(len(suites), 2, 4.6, [3.0] * len(suites), sharex=True, sharey="col")
    head_columns(axes, metrics)
    for row, ((recipe, dataset), of_suite) in enumerate(suites):
        axes[row][0].set_ylabel(f"{dataset}, recipe {recipe}\nAUROC of the last epoch, percent")
        for column, metric in enumerate(metrics):
            axis = axes[row][column]
            for i, (kind, known) in enumerate(groups):
                for k in counts:
                    of = of_suite[of_suite[["kind", "known", "k"]].eq([kind, known, k]).all(axis=1)].dropna(subset=metric)
                    if not of.empty:
                        _dumbbell(axis, counts.index(k) + 0.22 * (i - 1), of, metric, COLOURS[i])
            axis.set_xticks(range(len(counts)), [str(k) for k in counts])
            axis.set_xlim(-0.5, len(counts) - 0.5)
            axis.grid(axis="x", visible=False)
            low, high = axis.get_ylim()
            axis.set_ylim(low - 0.12 * (high - low), high)
    for axis in axes[-1]:
        axis.set_xlabel("known anomalies k")
    handles = [handle(name, color=COLOURS[i], marker="o", ls="") for i, name in enumerate(names)]
    handles = [
        h
        for h, (kind, known) in zip(handles, groups, strict=True)
        if ((types["kind"] == kind) & (types["known"] == known)).any()
    ]
    handles.append(handle("the same types at k = 0", color=PALE, marker="o", mfc="white", ls=""))
    caption = (
        "Each type against all normal test images; mean over the types of a cell, then over cells. The numbers at the "
        f"bottom count the types. A white mark is there only where every type has its cell with k = 0. {_BARS}"
    )
    return finish(figure, title, caption, handles, columns=2)


_BARS = "Bars span the lowest to the highest seed, where there are several."


def _complete_at_every_k(of_metric: pd.DataFrame) -> list[str]:
    """So that every point of a line is a mean over the same categories."""
    at_k = [set(complete_categories(part)) for _, part in of_metric.groupby(["k", "method"])]
    return [category for category in of_metric["category"].unique() if all(category in of for of in at_k)]


def _series(of_metric: pd.DataFrame, categories: list[str], rule: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """bgad-wo goes on as bgad; nf stands alone."""
    points = []
    for (k, method), part in of_metric.groupby(["k", "method"], sort=True):
        seeds = over_categories(part, categories, rule)
        if len(seeds):
            points.append(("nf" if method == "nf" else "bgad", k, seeds.mean(), seeds.min(), seeds.max()))
    table = pd.DataFrame(points, columns=["method", "k", "mean", "low", "high"])
    yield from table.groupby("method")


def _published_means(key: tuple, of_metric: pd.DataFrame, categories: list[str]) -> Iterator[tuple[int, float, str]]:
    _, dataset, kind = key
    if set(categories) != set(published.categories_of_mean(dataset)):
        return
    for k in sorted(of_metric["k"].unique()):
        for one in published.lookup(dataset, "mean", "bgad", kind, "", int(k), of_metric["metric"].iloc[0])[:1]:
            yield one.k, one.value, one.paper


def _means_caption(label: str, means_over: dict[str, int], asked: int) -> str:
    words = {
        metric: f"{n} categories" if n == asked else f"{n} of {asked} categories, those complete at every k"
        for metric, n in means_over.items()
    }
    if len(set(words.values())) == 1:
        return f"{label.capitalize()}: mean over {words[METRICS[0]]}."
    return f"{label.capitalize()}: mean over {'; '.join(f'{text} ({NAMES[m]})' for m, text in words.items())}."


def _dumbbell(axis, x: float, of: pd.DataFrame, metric: str, colour: str) -> None:
    """From the types' mean at k0 (white) to that at k (filled, with the range over seeds)."""
    cells = of.groupby(["category", "split", "seed"])[[metric, f"{metric}_k0"]].mean()
    at_k = cells[metric].mean()
    at_k0 = math.nan if of[f"{metric}_k0"].isna().any() else cells[f"{metric}_k0"].mean()
    seeds = cells[metric].groupby("seed").mean()
    axis.plot([x, x], [at_k0, at_k], color=colour, lw=1, alpha=0.6)
    axis.plot([x], [at_k0], color=colour, marker="o", ms=6, mfc="white", ls="")
    low, high = min(seeds.min(), at_k), max(seeds.max(), at_k)
    axis.errorbar([x], [at_k], yerr=[[at_k - low], [high - at_k]], color=colour, marker="o", ms=6, capsize=3)
    n = len(of[["category", "type"]].drop_duplicates())
    axis.text(x, 0.02, str(n), transform=axis.get_xaxis_transform(), ha="center", color=colour, fontsize=8.5)
