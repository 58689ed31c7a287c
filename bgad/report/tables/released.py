"""The section of a suite's table on the released test command, which leaves the known anomalies in the test set."""

from bgad.evaluation.metrics import METRICS
from bgad.report.averages import MEAN, RULES, Row, mean_rows, rows, settings
from bgad.report.collect import Collected
from bgad.report.statistics import signed
from bgad.report.tables.format import NAMES, Section, markdown, metric_record, title, with_sd

HEADING = "## With the released test command"
NONE_COUNTED = (
    "No measured cell of this suite has these metrics: only recipes with the quirk `test_command_keeps_known` report them, for "
    "k of at least 1."
)


def released_section(collected: Collected) -> Section:
    """A row for each setting with such metrics: the mean over its categories. The CSV also has the categories."""
    lines, shown, records = [HEADING, ""], [], []
    metrics = dict(settings(collected.metrics))
    for setting, part in settings(collected.released_test):
        if part["last"].isna().all():
            continue
        ours = {row.label: row for row in mean_rows(setting, metrics[setting], RULES)}
        for row in rows(setting, part):
            of_row = [metric_record("released_test_command", setting, row, metric) for metric in METRICS]
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
        "The last epoch on the test set of the released test command, which leaves the known anomalies in. That flatters: the "
        "model is tested on images that it was trained on. `- last` is the difference from **last** on the test set without "
        "them, the metric everywhere else in this report.",
        "",
        *markdown(heads, shown, left=2),
    ], records


def _gain(row: Row, same: Row | None, metric: str) -> str:
    return signed(row.of(metric, "last").mean - same.of(metric, "last").mean) if same else ""
