"""Published numbers in a suite's table, each with a verdict: BGAD's own and those of other methods in the same settings."""

from collections import Counter

from bgad.config.methods import PAPER_METHODS
from bgad.evaluation.metrics import METRICS
from bgad.report import published
from bgad.report.averages import MEAN, RULES, Row, Setting, rows, settings
from bgad.report.collect import Collected
from bgad.report.published import PUBLISHED_RECIPE, Published
from bgad.report.statistics import ABOVE, BELOW, CONSISTENT, NOT_MEASURED, REPRODUCED, Spread, number, signed, verdict
from bgad.report.tables.format import NAMES, Section, literal, markdown, metric_record, with_interval

OURS = "bgad"  # the method's name in published.csv
OWN, OTHERS = "published", "others"  # sections of the CSV
LEVEL = "level"  # instead of reproduced and consistent: for recipes and methods that cannot reproduce a number


def _verdicts(margin: float) -> str:
    return (
        "Square brackets hold the 95 % interval of our mean over seeds alone (Student's t, cut at 100), since the published "
        f"number was measured on the same test images. *{REPRODUCED}*: all of the interval is within {margin:g} percentage "
        f"points of the published number. *{CONSISTENT}*: it reaches that far and beyond, so it is too wide to tell. "
        f"*{ABOVE}*, *{BELOW}*: all of it is on that side, more than {margin:g} away. *{NOT_MEASURED}*: some of what the "
        "published number averages over is missing here, or there is only one seed, more than the margin away, which proves "
        f"nothing; one within it is {CONSISTENT}. The intervals also allow for the published digit's rounding, or for a "
        f"published spread. Only the recipe `{PUBLISHED_RECIPE}`, the released protocol, can reproduce a number; with any "
        f"other the word is *{LEVEL}* where it would be {REPRODUCED} or {CONSISTENT}. The author's single run is shown and not "
        "judged. Verdicts follow the numbers as printed. `verdict, best` follows the rule behind the published numbers, "
        "`verdict, last` does not."
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
                    records.append(compared(OWN, setting, row, metric, one, collected.margin))
                    # What a published number lacks is only of interest where it could be reproduced.
                    if setting.recipe == PUBLISHED_RECIPE or records[-1]["last"]:
                        shown.append(_cells(setting, records[-1]))
        others += other_records(OTHERS, setting, table, setting.kind, collected.margin)
    if not shown:
        return [], records + others
    heads = ["recipe", "setting", "row", "metric", "published"]
    for rule in RULES:
        heads += [f"ours, {rule}", f"{rule} - published", f"verdict, {rule}"]
    table_lines = markdown([*heads, "seeds", "source"], shown, left=4)
    return ["## Against the published numbers", "", _verdicts(collected.margin), "", *table_lines], records + others


def verdict_lines(records: list[dict]) -> list[str]:
    """How many of BGAD's published numbers its published recipe reproduces, and which recipes cannot reproduce any."""
    own = [record for record in records if record["section"] == OWN and record["verdict_best"]]
    recipes = list(dict.fromkeys(record["recipe"] for record in own))
    others = [recipe for recipe in recipes if recipe != PUBLISHED_RECIPE]
    lines = [] if recipes else ["**Verdict:** BGAD has no published number for this suite."]
    if PUBLISHED_RECIPE in recipes:
        verdicts = Counter(record["verdict_best"] for record in own if record["recipe"] == PUBLISHED_RECIPE)
        n = verdicts.total()
        counts = ", ".join(f"{verdicts[word]} {word}" for word in (REPRODUCED, CONSISTENT, ABOVE, BELOW, NOT_MEASURED))
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


def compared(section: str, setting: Setting, row: Row, metric: str, one: Published, margin: float) -> dict:
    """The record of a row next to one published number, with the verdict on our last.

    BGAD's own numbers also get a verdict on our best; others are not known to be chosen on the test set. Our values are empty
    if the row does not cover what the number averages over. Intervals are over seeds alone. Only the published recipe can
    reproduce a number, and a single run of the author's is no second claim, so it has no verdict.
    """
    own = one.method == OURS
    record = metric_record(section, setting, row, metric)
    where = "; ".join(text for text in (one.source, one.note) if text)
    record |= {"published_method": one.method, "published": f"{one.value:.1f}", "source": f"{one.paper} ({where})"}
    record |= {"published_sd": "" if one.std is None else f"{one.std:.1f}"}
    lacks = row.lacks.get(metric)
    if lacks:
        empty = dict.fromkeys([rule + end for rule in RULES for end in ("", "_sd", "_low", "_high", "_covers")], "")
        record |= empty | {"row": published_label(row, setting), "n": "", "note": lacks}
    for rule in RULES if own else RULES[:1]:
        ours = Spread.of([]) if lacks else row.of(metric, rule).over_seeds
        word = verdict(ours, one.value, margin, one.std)
        if not (own and setting.recipe == PUBLISHED_RECIPE) and word in (REPRODUCED, CONSISTENT):
            word = LEVEL
        record[f"verdict_{rule}"] = "" if one.is_single_run else word
        record |= {} if lacks else {key: value for key, value in ours.record(rule, number).items() if key != "n"}
        if record[rule]:
            record[f"{rule}_minus_published"] = signed(ours.printed[0] - one.value)
    return record


def other_records(section: str, setting: Setting, table: list[Row], published_as: str, margin: float) -> list[dict]:
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
            records += [compared(section, setting, row, metric, p, margin) for p in others if (p.category, p.known_type) == key]
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
