"""The methods next to each other: each one's mean over the categories with its interval, at the last epoch."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bgad.report import published
from bgad.report.averages import Row, Setting, measured_means, settings
from bgad.report.collect import Collected
from bgad.report.plots.style import COLOURS, INK, PALE, finish, handle, head_columns, nothing_to_show, panels, titled
from bgad.report.tables.format import SHOWN, column_names, column_of

LANE = 0.32  # inches


def methods(collected: Collected, title: str) -> Figure:
    """A row of panels for each data set and kind of split, a column for each metric, a lane for each method and k."""
    title = titled(title, "the methods next to each other")
    if collected.metrics["last"].isna().all():
        return nothing_to_show(title, "No cell of this suite is measured yet, so there is nothing to show.")
    groups: dict[tuple[str, str], dict[Setting, list[Row]]] = {}
    for setting, part in settings(collected.metrics):
        groups.setdefault((setting.dataset, setting.kind), {})[setting] = measured_means(setting, part, ["last"])
    figure, axes = panels(len(groups), len(SHOWN), 3.9, [LANE * len(of) + 0.3 for of in groups.values()], sharex="col")
    head_columns(axes, SHOWN)
    lines: dict[str, None] = {}
    for of_row, ((dataset, kind), of_group) in zip(axes, groups.items(), strict=True):
        names = column_names(list(of_group))
        lanes = sorted(of_group, key=lambda setting: list(names).index(column_of(setting)))
        for axis, metric in zip(of_row, SHOWN, strict=True):
            for y, setting in enumerate(lanes):
                _lane(axis, y, setting, of_group[setting], metric)
                lines |= dict.fromkeys(_published_line(axis, y, setting, of_group[setting], metric))
            axis.set_ylim(len(lanes) - 0.4, -0.6)
            axis.margins(x=0.12)
            axis.grid(axis="y", visible=False)
            axis.set_yticks(range(len(lanes)), [""] * len(lanes))
        labels = [names[column_of(setting)] + " †" * _is_incomplete(of_group[setting]) for setting in lanes]
        of_row[0].set_yticks(range(len(lanes)), labels)
        of_row[0].set_ylabel(f"{dataset}\n{kind} splits")
    for axis in axes[-1]:
        axis.set_xlabel("percent")
    handles = [
        handle(text, color=of, marker="o", ls="") for text, of in (("knows anomalies", COLOURS[0]), ("knows none", PALE))
    ]
    handles += [handle(text, color=INK, marker="|", ms=14, mew=1.5, ls="") for text in lines]
    found = {
        row.of(metric, "last").covers for of in groups.values() for rows in of.values() for row in rows for metric in SHOWN
    }
    over = " or over ".join(sorted(found - {""}))
    caption = "Means over the categories, at the last epoch."
    caption += f" Bars are 95 % intervals over {over}, as in the table." if over else ""
    if any(_is_incomplete(rows) for of_group in groups.values() for rows in of_group.values()):
        caption += " † cells are missing; the mean is over the complete categories."
    return finish(figure, title, caption, handles)


def _lane(axis: Axes, y: int, setting: Setting, rows: list[Row], metric: str) -> None:
    spread = next((row.of(metric, "last") for row in rows if row.of(metric, "last").n), None)
    if spread is None:
        return
    mean, low, high = spread.printed
    colour = COLOURS[0] if setting.k else PALE
    axis.plot([low, high], [y, y], color=colour, lw=2.2, alpha=0.55, solid_capstyle="butt")
    axis.plot([mean], [y], color=colour, marker="o", ms=6, ls="")
    axis.annotate(f"{mean:.2f}", (mean, y), (0, 5), textcoords="offset points", ha="center", va="bottom", fontsize=8, color=INK)


def _published_line(axis: Axes, y: int, setting: Setting, rows: list[Row], metric: str) -> list[str]:
    """Marks BGAD's published mean in its lane if ours is over the same categories; returns its name."""
    if rows[0].lacks.get(metric, "not a mean"):
        return []
    found = published.lookup(setting.dataset, "mean", setting.method, setting.kind, "", setting.k, metric)[:1]
    for one in found:
        axis.plot([one.value], [y], color=INK, marker="|", ms=14, mew=1.5, ls="")
    return [f"published: {one.paper} (its best evaluations)" for one in found]


def _is_incomplete(rows: list[Row]) -> bool:
    return any(row.missing for row in rows)
