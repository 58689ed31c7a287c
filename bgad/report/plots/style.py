"""How every plot looks: colours that colour-blind readers can tell apart, one layout, and the same bytes each time."""

import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bgad.io import whole
from bgad.report.averages import settings
from bgad.report.collect import DONE
from bgad.report.tables.format import NAMES, SHOWN, column_names

COLOURS = seaborn.color_palette("colorblind").as_hex()
MARKERS = "osD^vPX*<>"
INK, PALE = "#222222", "#777777"
SERIES = ["recipe", "k", "method"]
DOTS_PER_INCH = 150


@contextmanager
def style() -> Iterator[None]:
    """The look of the plots, inside the block only."""
    changes = {
        **seaborn.axes_style("whitegrid"),
        "font.family": ["DejaVu Sans", "sans-serif"],
        "text.parse_math": False,  # a category's name is not a formula
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.labelsize": 9,
        "axes.ymargin": 0.1,
        "axes.edgecolor": "#bbbbbb",
        "grid.color": "#e6e6e6",
        "legend.frameon": False,
        "svg.fonttype": "none",  # text stays text, to be read, searched and tested
        "svg.hashsalt": "bgad",  # seeds the names of elements, which would otherwise change each time
    }
    with matplotlib.rc_context(changes):
        yield


def panels(rows: int, columns: int, width: float, heights: list[float], **options) -> tuple[Figure, list[list[Axes]]]:
    """A figure of ``rows`` x ``columns`` axes, ``width`` inches each, its rows ``heights`` inches."""
    figure = Figure(figsize=(width * columns, sum(heights) + 1.7))
    figure.set_layout_engine("constrained", w_pad=0.06, h_pad=0.06)
    return figure, figure.subplots(rows, columns, squeeze=False, height_ratios=heights, **options).tolist()


def titled(suite: str, what: str) -> str:
    """ "Demo: every category"; what a suite asks keeps its own mark."""
    return f"{suite} {what[0].upper()}{what[1:]}" if suite.endswith(("?", ".", "!")) else f"{suite}: {what}"


def finish(figure: Figure, title: str, caption: str, handles: list, columns: int = 3) -> Figure:
    """Title at the top, legend below it, caption at the bottom."""
    width = int(figure.get_figwidth() * 14)
    figure.supxlabel(textwrap.fill(caption, width), x=0.01, ha="left", fontsize=8.5, color=PALE)
    # The title belongs to the legend: a figure's title and a legend outside the axes would overlap.
    legend = figure.legend(
        handles=handles,
        title=textwrap.fill(title, int(width * 0.68)),
        loc="outside upper left",
        ncols=columns,
        fontsize=8.5,
        alignment="left",
        title_fontproperties={"size": 12, "weight": "bold"},
    )
    legend.get_title().set_color(INK)
    return figure


def nothing_to_show(title: str, reason: str) -> Figure:
    """A figure that says in words why it is empty."""
    figure = Figure(figsize=(8, 2.4), layout="constrained")
    figure.suptitle(textwrap.fill(title, 80), x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK)
    figure.text(0.5, 0.4, textwrap.fill(reason, 80), ha="center", va="center", fontsize=11, color=PALE)
    return figure


def save(figure: Figure, stem: Path) -> None:
    """Writes ``stem``.svg and ``stem``.png, complete or not at all."""
    for ending, metadata in (("svg", {"Date": None, "Creator": None}), ("png", {"Software": None})):
        with whole(stem.with_name(f"{stem.name}.{ending}")) as temporary:
            figure.savefig(temporary, dpi=DOTS_PER_INCH, metadata=metadata)


def head_columns(axes: list[list[Axes]], metrics: Sequence[str]) -> None:
    for axis, metric in zip(axes[0], metrics, strict=True):
        axis.set_title(NAMES[metric], loc="left", fontweight="bold")


def category_panels(
    table: pd.DataFrame, lane: float, draw: Callable[[Axes, pd.DataFrame, Callable[[str], float], tuple, dict], None]
) -> tuple[Figure, list[list[Axes]], list[Line2D]]:
    """A row of panels for each data set and kind of split, a column for each metric, a lane for each category, with ``lane``
    inches per series. † marks a category with missing cells. Also returns the handles of the series.

    ``draw(axis, part, y, (dataset, kind, metric, *key), look)`` draws the rows of one series: ``key`` are its values of SERIES,
    ``y(category)`` is its height in the category's lane.
    """
    names = column_names([setting for setting, _ in settings(table)])
    look = looks(names)
    groups = list(table.groupby(["dataset", "kind"], sort=False))
    step = max(0.3, lane * len(names))
    heights = [step * part["category"].nunique() + 0.4 for _, part in groups]
    figure, axes = panels(len(groups), len(SHOWN), 3.9, heights, sharex="col")
    head_columns(axes, SHOWN)
    for row, ((dataset, kind), of_group) in enumerate(groups):
        categories = list(of_group["category"].unique())
        incomplete = set(of_group.loc[of_group["status"] != DONE, "category"])
        for column, metric in enumerate(SHOWN):
            axis, of_metric = axes[row][column], of_group[of_group["metric"] == metric]
            for i, key in enumerate(names):
                offset = (i - (len(names) - 1) / 2) * 0.8 / len(names)
                part = of_metric[(of_metric[SERIES] == list(key)).all(axis=1)]
                place = {category: number + offset for number, category in enumerate(categories)}
                draw(axis, part, place.__getitem__, (dataset, kind, metric, *key), look[key])
            _lanes(axis, [name + " †" * (name in incomplete) for name in categories] if column == 0 else [""] * len(categories))
        axes[row][0].set_ylabel(f"{dataset}\n{kind} splits")
    return figure, axes, [handle(name, ls="", ms=5, **look[key]) for key, name in names.items()]


def _lanes(axis: Axes, names: list[str]) -> None:
    """A lane for each category, from top to bottom."""
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_yticks([y + 0.5 for y in range(len(names) - 1)], minor=True)
    axis.grid(axis="y", visible=False)
    axis.grid(axis="y", which="minor", color="#cccccc")
    axis.tick_params(axis="y", which="minor", length=0)


def looks(names: dict) -> dict:
    """A colour and a marker for each key."""
    return {
        key: {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[(i + i // len(COLOURS)) % len(MARKERS)]}
        for i, key in enumerate(names)
    }


def handle(label: str, **look) -> Line2D:
    return Line2D([], [], label=label, **look)
