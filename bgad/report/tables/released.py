"""The section of a suite's table on what the released test command counts: the known anomalies stay in the test set."""

from bgad.report.collect import METRICS, Collected
from bgad.report.statistics import MEAN, RULES, Row, mean_rows, rows, settings, signed
from bgad.report.tables.format import NAMES, Section, figures_of, markdown, title, with_sd

HEADING = "## As the released test command counts"
NONE_COUNTED = (
    "No measured cell of this suite is counted so: that is done for k of at least 1, by the recipes with the quirk "
    "`test_command_keeps_known`."
)


def released_section(collected: Collected) -> Section:
    """A row for each setting with such figures: the mean over its categories; the CSV has its categories as well."""
    lines, shown, records = [HEADING, ""], [], []
    figures = dict(settings(collected.figures))
    for setting, part in settings(collected.released_test):
        if part["last"].isna().all():
            continue
        ours = {row.label: row for row in mean_rows(setting, figures[setting], RULES)}
        for row in rows(setting, part):
            of_row = [figures_of("released_test_command", setting, row, metric) for metric in METRICS]
            records += of_row
            if row.category in (MEAN, ""):
                mark, same = " †" if row.missing else "", ours.get(row.label)
                shown.append([title(setting), row.full_label.removeprefix("mean over ") + mark, str(row.seeds)])
                for record in of_row:
                    shown[-1] += [with_sd(record, "last"), _gain(row, same, record["metric"])]
    if not shown:
        return [*lines, NONE_COUNTED], []
    heads = ["setting", "mean over", "seeds"]
    for metric in METRICS:
        heads += [NAMES[metric], "- last"]
    return [
        *lines,
        "The last epoch, counted on the test set that the released test command uses: the whole one, with the known "
        "anomalies left in. That flatters, because the model has been trained on images that it is tested on. `- last` is "
        "the difference to our **last** on the test set without them, which is the figure everywhere else in this report.",
        "",
        *markdown(heads, shown, left=2),
    ], records


def _gain(row: Row, same: Row | None, metric: str) -> str:
    return signed(row.of(metric, "last").mean - same.of(metric, "last").mean) if same else ""
