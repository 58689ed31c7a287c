"""Published numbers in a suite's table: BGAD's own beside ours, and other methods in the same settings."""

from bgad.report import published
from bgad.report.collect import METRICS, Collected
from bgad.report.published import Published
from bgad.report.summary import MEAN, RULES, Row, Setting, rows, settings
from bgad.report.table_format import NAMES, Section, figures_of, markdown, number, signed, with_sd

OURS = "bgad"  # as published.csv calls the method


def published_section(collected: Collected) -> Section:
    """Every number published for BGAD beside our last and best, then the other methods of the same settings."""
    shown, records, context = [], [], []
    for setting, part in settings(collected.figures):
        if not setting.k:
            continue  # what is published without known anomalies is on the whole test set
        table = rows(setting, part)
        for row in _means_first(table):
            for metric in METRICS:
                for one in numbers_of(setting, row, metric):
                    records.append(compared("published", setting, row, metric, one))
                    shown.append(_cells(setting, records[-1]))
        context += context_tables(setting, table, setting.kind)

    lines = ["## Against the published numbers", ""]
    if shown:
        heads = ["recipe", "setting", "row", "metric", "published", "ours, last", "last - published", "ours, best"]
        lines += [
            "BGAD's per-category values are not public, so only its means over all categories can be compared. They "
            "are maxima over the evaluations on the test set: `best - published` compares like with like, and "
            "`last - published` is what remains when no epoch is chosen on the test set.",
            "",
            *markdown([*heads, "best - published", "seeds", "source"], shown, left=4),
        ]
    else:
        lines.append("No number that was published for BGAD belongs to a setting of this suite: there is none to compare.")
    return [*lines, *context_lines(context, "Other methods in the same settings")], records


def numbers_of(setting: Setting, row: Row, metric: str) -> list[Published]:
    """What is published for this very method, setting and row; the paper's own first."""
    if not setting.k or not row.category:
        return []
    key = (setting.dataset, row.category, setting.method, setting.kind, row.known_type, setting.k, metric)
    return published.lookup(*key)


def compared(section: str, setting: Setting, row: Row, metric: str, one: Published) -> dict:
    """The record of a row beside one published number; without figures where the row is not what that number is of."""
    record = figures_of(section, setting, row, metric)
    where = "; ".join(text for text in (one.source, one.note) if text)
    record |= {"published": number(one.value), "source": f"{one.paper} ({where})"}
    if row.lacks.get(metric):
        empty = dict.fromkeys([*RULES, *(f"{rule}_sd" for rule in RULES)], "")
        return record | empty | {"row": published_label(row, setting), "n": "", "note": row.lacks[metric]}
    for rule in RULES:
        if record[rule]:
            record[f"{rule}_minus_published"] = signed(row.spread[metric, rule].mean - one.value)
    return record


def context_tables(setting: Setting, table: list[Row], published_as: str) -> list[tuple]:
    """What other methods publish for the rows of ``table``: for each metric a caption, the methods, and the cells.

    None where nothing of the setting is measured.
    """
    result = []
    if not any(row.seeds for row in table):
        return result
    for metric in METRICS:
        others = [p for p in published.of_setting(setting.dataset, published_as, setting.k, metric) if p.method != OURS]
        methods = list(dict.fromkeys((p.method, p.source) for p in others))
        body = []
        for row in _means_first(table):
            key = (row.category, row.known_type if published_as == "hard" else "")
            of_row = {(p.method, p.source): p for p in others if (p.category, p.known_type) == key}
            if of_row:
                values = [_with_std(of_row[method]) if method in of_row else "" for method in methods]
                body.append([published_label(row, setting), *_ours(setting, row, metric), *values])
        if body:
            where = "whole test set" if published_as == "unsupervised" else published_as
            caption = f"{NAMES[metric]}: {setting.dataset}, {where}, k = {setting.k}"
            result.append((f"{caption}; ours is {setting.method}, recipe {setting.recipe}", methods, body))
    return result


def published_label(row: Row, setting: Setting) -> str:
    """A mean is named by what the published one is over."""
    n = len(published.categories_of_mean(setting.dataset))
    return f"mean over {n} categories" if row.category == MEAN else row.label


def context_lines(context: list[tuple], heading: str) -> list[str]:
    if not context:
        return []
    sources = list(dict.fromkeys(source for _, methods, _ in context for _, source in methods))
    lines = ["", f"### {heading}", "", "As published, with mean ± standard deviation where both are given."]
    for caption, methods, body in context:
        heads = [f"{method} [{sources.index(source) + 1}]" for method, source in methods]
        lines += ["", f"**{caption}**", "", *markdown(["category", "ours, last", "ours, best", *heads], body)]
    return [*lines, "", "Sources:", "", *(f"- [{i}] {source}" for i, source in enumerate(sources, 1))]


def _means_first(table: list[Row]) -> list[Row]:
    """Without the mean over the complete categories alone, which has no published counterpart."""
    return sorted((row for row in table if row.category), key=lambda row: row.category != MEAN)


def _ours(setting: Setting, row: Row, metric: str) -> list[str]:
    if row.lacks.get(metric):
        return [row.lacks[metric], ""]
    record = figures_of("", setting, row, metric)
    texts = [with_sd(record, rule) for rule in RULES]
    return [f"{text} †" if text and row.missing else text for text in texts]


def _cells(setting: Setting, of: dict) -> list[str]:
    ours = []
    for rule in RULES:
        ours += [with_sd(of, rule), of.get(f"{rule}_minus_published", "")]
    if not of["last"]:
        ours[0] = of["note"]
    where = f"{setting.dataset}, {setting.kind}, k = {setting.k}"
    return [setting.recipe, where, of["row"], NAMES[of["metric"]], of["published"], *ours, str(of["n"]), of["source"]]


def _with_std(one: Published) -> str:
    return f"{one.value:.1f}" + ("" if one.std is None else f" ± {one.std:.1f}")
