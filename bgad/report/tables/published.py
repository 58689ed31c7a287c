"""Published numbers in a suite's table, each with a verdict: BGAD's own and those of other methods in the same settings."""

from collections import Counter

from bgad.config.methods import PAPER_METHODS
from bgad.evaluation.metrics import METRICS
from bgad.report import published
from bgad.report.averages import MEAN, RULES, Row, Setting, rows, settings
from bgad.report.collect import Collected
from bgad.report.published import PUBLISHED_RECIPE, Published
from bgad.report.statistics import ABOVE, BELOW, LEVEL, NOT_MEASURED, REPRODUCED, TOLERANCE, Spread, signed, verdict
from bgad.report.tables.format import NAMES, Section, markdown, metric_record, with_interval

OURS = "bgad"  # the method's name in published.csv
OWN, OTHERS = "published", "others"  # sections of the CSV

VERDICTS = (
    f"**Verdicts.** Square brackets hold the 95 % interval of our mean over seeds (Student's t; not cut at 100). "
    f"*{REPRODUCED}*: the published value is in the interval, or within {TOLERANCE} percentage points of our mean (half of the "
    f"last published digit). Only the recipe `{PUBLISHED_RECIPE}`, the released protocol, can reproduce a number; with any "
    f"other the word is *{LEVEL}*. *{ABOVE}*, *{BELOW}*: ours is above or below the published value. *{NOT_MEASURED}*: some of "
    "what the published number averages over is missing here. With a single seed there is no interval, and only the tolerance "
    "decides. With two or three seeds the interval can be so wide that a value inside it says little. Verdicts follow the "
    "numbers as printed. `verdict, best` follows the rule behind the published numbers, `verdict, last` does not."
)


def published_section(collected: Collected) -> Section:
    """Every number published for BGAD next to our last and best, then other methods in the same settings."""
    shown, records, context, others = [], [], [], []
    for setting, part in settings(collected.metrics):
        if not setting.k:
            continue  # numbers without known anomalies are published on the whole test set
        table = rows(setting, part)
        for row in _means_first(table):
            for metric in METRICS:
                for one in numbers_of(setting, row, metric):
                    records.append(compared(OWN, setting, row, metric, one))
                    shown.append(_cells(setting, records[-1]))
        tables, of_others = others_tables(OTHERS, setting, table, setting.kind)
        context += tables
        others += of_others

    lines = ["## Against the published numbers", ""]
    if shown:
        heads = ["recipe", "setting", "row", "metric", "published"]
        for rule in RULES:
            heads += [f"ours, {rule}", f"{rule} - published", f"verdict, {rule}"]
        lines += [
            "We found no public per-category values of BGAD, so only its means over all categories are compared. They are "
            "maxima over the evaluations on the test set: `best - published` compares like with like, `last - published` shows "
            "what remains if no epoch is chosen on the test set.",
            "",
            VERDICTS,
            "",
            *markdown([*heads, "seeds", "source"], shown, left=4),
        ]
    else:
        lines.append("BGAD has no published number for a setting of this suite, so there is nothing to compare.")
    return [*lines, *others_lines(context, "Other methods in the same settings")], records + others


def verdict_lines(records: list[dict]) -> list[str]:
    """How many of BGAD's published numbers its published recipe reproduces, and which recipes cannot reproduce any."""
    own = [record for record in records if record["section"] == OWN]
    recipes = list(dict.fromkeys(record["recipe"] for record in own))
    others = [recipe for recipe in recipes if recipe != PUBLISHED_RECIPE]
    lines = [] if recipes else ["**Verdict:** BGAD has no published number for this suite."]
    if PUBLISHED_RECIPE in recipes:
        verdicts = Counter(record["verdict_best"] for record in own if record["recipe"] == PUBLISHED_RECIPE)
        n = verdicts.total()
        counts = ", ".join(f"{verdicts[word]} {word}" for word in (REPRODUCED, ABOVE, BELOW, NOT_MEASURED))
        which = f", recipe `{PUBLISHED_RECIPE}`" if others else ""
        lines.append(
            f"**Verdict{which}:** this suite covers {n} published {'number' if n == 1 else 'numbers'} of BGAD: {counts} "
            "(our best evaluations against theirs)."
        )
    if others:
        names = ", ".join(f"`{recipe}`" for recipe in others)
        lines.append(f"**No verdict for {names}:** only BGAD's published recipe can reproduce its numbers.")
    return [line for text in lines for line in (text, "")][:-1]


def numbers_of(setting: Setting, row: Row, metric: str) -> list[Published]:
    """What is published for exactly this method, setting and row; the paper's own number first."""
    if not setting.k or not row.category:
        return []
    key = (setting.dataset, row.category, setting.method, setting.kind, row.known_type, setting.k, metric)
    return published.lookup(*key)


def compared(section: str, setting: Setting, row: Row, metric: str, one: Published) -> dict:
    """The record of a row next to one published number, with the verdict on our last.

    BGAD's own numbers also get a verdict on our best; others are not known to be chosen on the test set. Our values are empty
    if the row does not cover what the number averages over. Only the published recipe can reproduce a number.
    """
    own = one.method == OURS
    record = metric_record(section, setting, row, metric)
    where = "; ".join(text for text in (one.source, one.note) if text)
    record |= {"published_method": one.method, "published": f"{one.value:.1f}", "source": f"{one.paper} ({where})"}
    record |= {"published_sd": "" if one.std is None else f"{one.std:.1f}"}
    lacks = row.lacks.get(metric)
    if lacks:
        empty = dict.fromkeys([rule + end for rule in RULES for end in ("", "_sd", "_low", "_high")], "")
        record |= empty | {"row": published_label(row, setting), "n": "", "note": lacks}
    for rule in RULES if own else RULES[:1]:
        ours = Spread.of([]) if lacks else row.of(metric, rule)
        met = REPRODUCED if own and setting.recipe == PUBLISHED_RECIPE else LEVEL
        record[f"verdict_{rule}"] = verdict(ours, one.value, met)
        if record[rule]:
            record[f"{rule}_minus_published"] = signed(ours.printed[0] - one.value)
    return record


def others_tables(section: str, setting: Setting, table: list[Row], published_as: str) -> tuple[list[tuple], list[dict]]:
    """What other methods publish for the rows of ``table``: for each metric a caption, the methods and the cells (none if
    nothing of the setting is measured); and a record for each number.

    A detector gets none: other methods are context for BGAD, and a detector's own published numbers use another backbone.
    """
    tables: list[tuple] = []
    records: list[dict] = []
    if setting.method not in PAPER_METHODS:
        return tables, records
    measured = any(row.seeds for row in table)
    for metric in METRICS:
        others = [p for p in published.of_setting(setting.dataset, published_as, setting.k, metric) if p.method != OURS]
        methods = list(dict.fromkeys((p.method, p.source) for p in others))
        body, before = [], len(records)
        for row in _means_first(table):
            key = (row.category, row.known_type if published_as == "hard" else "")
            of_row = {
                (p.method, p.source): compared(section, setting, row, metric, p)
                for p in others
                if (p.category, p.known_type) == key
            }
            records += of_row.values()
            if of_row and measured:
                values = [_with_verdict(of_row[method]) if method in of_row else "" for method in methods]
                body.append([published_label(row, setting), *_ours(setting, row, metric), *values])
        if len(records) > before:
            where = "whole test set" if published_as == "unsupervised" else published_as
            caption = f"{NAMES[metric]}: {setting.dataset}, {where}, k = {setting.k}"
            tables.append((f"{caption}; ours is {setting.method}, recipe {setting.recipe}", methods, body))
    return tables, records


def published_label(row: Row, setting: Setting) -> str:
    """The row's label; a mean is labelled as the published mean is."""
    n = len(published.categories_of_mean(setting.dataset))
    return f"mean over {n} categories" if row.category == MEAN else row.label


def others_lines(tables: list[tuple], heading: str) -> list[str]:
    """``tables`` as others_tables returns them, for all settings of a section."""
    if not tables:
        return []
    lines = [
        "",
        f"### {heading}",
        "",
        "As published, with mean ± standard deviation if both are given. These are other methods, so nothing here can "
        "reproduce them. Each number is followed by our **last** minus it (theirs are not known to be chosen on the test set), "
        f"and by whether ours is *{ABOVE}* it, *{BELOW}* it or *{LEVEL}* with it. Level means that the number is in our 95 % "
        f"interval over seeds (in square brackets) or within {TOLERANCE} percentage points of our mean. With a single seed "
        "only the latter counts.",
    ]
    sources = list(dict.fromkeys(source for _, methods, body in tables if body for _, source in methods))
    for caption, methods, body in tables:
        lines += ["", f"**{caption}**", ""]
        if body:
            heads = [f"{method} [{sources.index(source) + 1}]" for method, source in methods]
            lines += markdown(["category", "ours, last", "ours, best", *heads], body)
        else:
            lines.append("Ours is not measured here yet.")
    return [*lines, *(["", "Sources:", ""] if sources else []), *(f"- [{i}] {source}" for i, source in enumerate(sources, 1))]


def _means_first(table: list[Row]) -> list[Row]:
    """Without the mean over only the complete categories, which has no published counterpart."""
    return sorted((row for row in table if row.category), key=lambda row: row.category != MEAN)


def _ours(setting: Setting, row: Row, metric: str) -> list[str]:
    if row.lacks.get(metric):
        return [row.lacks[metric], ""]
    record = metric_record("", setting, row, metric)
    if not record["last"]:
        return [NOT_MEASURED, ""]
    texts = [with_interval(record, rule) for rule in RULES]
    return [f"{text} †" if text and row.missing else text for text in texts]


def _cells(setting: Setting, of: dict) -> list[str]:
    ours = []
    for rule in RULES:
        ours += [with_interval(of, rule), of.get(f"{rule}_minus_published", ""), of[f"verdict_{rule}"]]
    if not of["last"]:
        ours[0] = of["note"]
    where = f"{setting.dataset}, {setting.kind}, k = {setting.k}"
    return [setting.recipe, where, of["row"], NAMES[of["metric"]], of["published"], *ours, str(of["n"]), of["source"]]


def _with_verdict(of: dict) -> str:
    """ "74.6 ± 7.6 (+3.20 above)"; only the number if ours is not measured."""
    text = of["published"] + (f" ± {of['published_sd']}" if of["published_sd"] else "")
    if of["verdict_last"] == NOT_MEASURED:
        return text
    return f"{text} ({of['last_minus_published']} {of['verdict_last']})"
