"""Published numbers in a suite's table, each with a verdict: BGAD's own and those of other methods in the same settings."""

from collections import Counter

from bgad.config.methods import PAPER_METHODS
from bgad.evaluation.metrics import METRICS
from bgad.report import published
from bgad.report.averages import MEAN, RULES, Row, Setting, rows, settings
from bgad.report.collect import Collected
from bgad.report.published import PUBLISHED_RECIPE, Published
from bgad.report.statistics import ABOVE, BELOW, LEVEL, NOT_MEASURED, REPRODUCED, TOLERANCE, Spread, signed, verdict
from bgad.report.tables.format import NAMES, Section, literal, markdown, metric_record, with_interval

OURS = "bgad"  # the method's name in published.csv
OWN, OTHERS = "published", "others"  # sections of the CSV

VERDICTS = (
    f"Square brackets hold the 95 % interval of our mean over seeds (Student's t). "
    f"*{REPRODUCED}*: the published value is in the interval, or within {TOLERANCE} percentage points of our mean (half of the "
    f"last published digit). Only the recipe `{PUBLISHED_RECIPE}`, the released protocol, can reproduce a number; with any "
    f"other the word is *{LEVEL}*. *{ABOVE}*, *{BELOW}*: ours is above or below the published value. *{NOT_MEASURED}*: some of "
    "what the published number averages over is missing here. With a single seed there is no interval, and only the tolerance "
    "decides. With two or three seeds the interval can be so wide that a value inside it says little. Verdicts follow the "
    "numbers as printed. `verdict, best` follows the rule behind the published numbers, `verdict, last` does not."
)


def published_section(collected: Collected) -> Section:
    """Every number published for BGAD next to our last and best. The records also have other methods in the same settings."""
    shown, records, others = [], [], []
    for setting, part in settings(collected.metrics):
        if not setting.k:
            continue  # numbers without known anomalies are published on the whole test set
        table = rows(setting, part)
        for row in _means_first(table):
            for metric in METRICS:
                for one in numbers_of(setting, row, metric):
                    records.append(compared(OWN, setting, row, metric, one))
                    # What a published number lacks is only of interest where it could be reproduced.
                    if setting.recipe == PUBLISHED_RECIPE or records[-1]["last"]:
                        shown.append(_cells(setting, records[-1]))
        others += other_records(OTHERS, setting, table, setting.kind)
    if not shown:
        return [], records + others
    heads = ["recipe", "setting", "row", "metric", "published"]
    for rule in RULES:
        heads += [f"ours, {rule}", f"{rule} - published", f"verdict, {rule}"]
    table_lines = markdown([*heads, "seeds", "source"], shown, left=4)
    return ["## Against the published numbers", "", VERDICTS, "", *table_lines], records + others


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


def other_records(section: str, setting: Setting, table: list[Row], published_as: str) -> list[dict]:
    """What other methods publish for the rows of ``table``, next to ours.

    A detector gets none: other methods are context for BGAD, and a detector's own published numbers use another backbone.
    """
    records: list[dict] = []
    if setting.method not in PAPER_METHODS:
        return records
    for metric in METRICS:
        others = [p for p in published.of_setting(setting.dataset, published_as, setting.k, metric) if p.method != OURS]
        for row in _means_first(table):
            key = (row.category, row.known_type if published_as == "hard" else "")
            records += [compared(section, setting, row, metric, p) for p in others if (p.category, p.known_type) == key]
    return records


def published_label(row: Row, setting: Setting) -> str:
    """The row's label; a mean is labelled as the published mean is."""
    n = len(published.categories_of_mean(setting.dataset))
    return f"mean over {n} categories" if row.category == MEAN else row.label


def _means_first(table: list[Row]) -> list[Row]:
    """Without the mean over only the complete categories, which has no published counterpart."""
    return sorted((row for row in table if row.category), key=lambda row: row.category != MEAN)


def _cells(setting: Setting, of: dict) -> list[str]:
    ours = []
    for rule in RULES:
        ours += [with_interval(of, rule), of.get(f"{rule}_minus_published", ""), of[f"verdict_{rule}"]]
    if not of["last"]:
        ours[0] = literal(of["note"])
    where = f"{setting.dataset}, {setting.kind}, k = {setting.k}"
    return [setting.recipe, where, literal(of["row"]), NAMES[of["metric"]], of["published"], *ours, str(of["n"]), of["source"]]
