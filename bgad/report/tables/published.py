"""Published numbers in a suite's table, each with its verdict: BGAD's own beside ours, and other methods' in the same
settings."""

from collections import Counter

from bgad.config.methods import PAPER_METHODS
from bgad.report import published
from bgad.report.collect import METRICS, Collected
from bgad.report.published import PUBLISHED_RECIPE, Published
from bgad.report.statistics import MEAN, RULES, Row, Setting, Spread, rows, settings, signed
from bgad.report.tables.format import NAMES, Section, figures_of, markdown, with_interval
from bgad.report.verdict import ABOVE, BELOW, LEVEL, NOT_MEASURED, REPRODUCED, TOLERANCE, verdict

OURS = "bgad"  # as published.csv calls the method
OWN, OTHERS = "published", "others"  # sections of the CSV

VERDICTS = (
    f"**Verdicts.** In square brackets stands the 95 % interval of our mean over seeds (Student's t; it is not cut at 100). "
    f"*{REPRODUCED}*: the published value lies in it, or within {TOLERANCE} percentage points of our mean, half of the last "
    f"published digit. Only the recipe `{PUBLISHED_RECIPE}`, the released protocol, can reproduce anything; with another the "
    f"word is *{LEVEL}*. *{ABOVE}*, *{BELOW}*: ours is above or below the published value. *{NOT_MEASURED}*: not everything is "
    "there that the published number is over. With a single seed there is no interval, and the tolerance alone decides. "
    "With two or three seeds the interval can be wide: then a value in it says little, and the interval says how little. "
    "Words go by the figures as they are printed. `verdict, best` judges by the rule of the published numbers; `verdict, last` "
    "stands beside it."
)


def published_section(collected: Collected) -> Section:
    """Every number published for BGAD beside our last and best, then the other methods of the same settings."""
    shown, records, context, others = [], [], [], []
    for setting, part in settings(collected.figures):
        if not setting.k:
            continue  # what is published without known anomalies is on the whole test set
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
            "BGAD's per-category values are not public where we looked, so only its means over all categories can be "
            "compared. They are maxima over the evaluations on the test set: `best - published` compares like with like, and "
            "`last - published` is what remains when no epoch is chosen on the test set.",
            "",
            VERDICTS,
            "",
            *markdown([*heads, "seeds", "source"], shown, left=4),
        ]
    else:
        lines.append("No number that was published for BGAD belongs to a setting of this suite: there is none to compare.")
    return [*lines, *others_lines(context, "Other methods in the same settings")], records + others


def verdict_lines(records: list[dict]) -> list[str]:
    """How many of BGAD's published numbers the published recipe reproduces, and which recipes cannot."""
    own = [record for record in records if record["section"] == OWN]
    recipes = list(dict.fromkeys(record["recipe"] for record in own))
    others = [recipe for recipe in recipes if recipe != PUBLISHED_RECIPE]
    lines = [] if recipes else ["**Verdict:** no published number of BGAD belongs to this suite."]
    if PUBLISHED_RECIPE in recipes:
        verdicts = Counter(record["verdict_best"] for record in own if record["recipe"] == PUBLISHED_RECIPE)
        n = verdicts.total()
        counts = ", ".join(f"{verdicts[word]} {word}" for word in (REPRODUCED, ABOVE, BELOW, NOT_MEASURED))
        which = f", recipe `{PUBLISHED_RECIPE}`" if others else ""
        lines.append(
            f"**Verdict{which}:** of {n} published {'number' if n == 1 else 'numbers'} of BGAD that belong to this "
            f"suite: {counts} (our best evaluations against theirs)."
        )
    if others:
        names = ", ".join(f"`{recipe}`" for recipe in others)
        lines.append(
            f"**No verdict for {names}:** the recipe is not BGAD's published one, so nothing can be reproduced with it."
        )
    return [line for text in lines for line in (text, "")][:-1]


def numbers_of(setting: Setting, row: Row, metric: str) -> list[Published]:
    """What is published for this very method, setting and row; the paper's own first."""
    if not setting.k or not row.category:
        return []
    key = (setting.dataset, row.category, setting.method, setting.kind, row.known_type, setting.k, metric)
    return published.lookup(*key)


def compared(section: str, setting: Setting, row: Row, metric: str, one: Published) -> dict:
    """The record of a row beside one published number, with the verdict on our last, and on our best where the number
    is BGAD's own: the others are not known to be chosen on the test set. Without figures where the row is not what that
    number is of. Nothing but the published recipe can reproduce a number.
    """
    own = one.method == OURS
    record = figures_of(section, setting, row, metric)
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
    """What other methods publish for the rows of ``table``: for each metric a caption, the methods and the cells, which
    are empty where nothing of the setting is measured; and a record for each number. None for a detector: other methods are
    there for BGAD to stand beside, and a detector's own published numbers are of another backbone than a recipe's.
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
    """A mean is named by what the published one is over."""
    n = len(published.categories_of_mean(setting.dataset))
    return f"mean over {n} categories" if row.category == MEAN else row.label


def others_lines(tables: list[tuple], heading: str) -> list[str]:
    """``tables`` as others_tables gives them, for all settings of a section."""
    if not tables:
        return []
    lines = [
        "",
        f"### {heading}",
        "",
        "As published, with mean ± standard deviation where both are given. These are other methods, so that none of "
        "them can be reproduced here. Behind a number stands the difference of our **last** epoch from it, since nothing "
        f"says that theirs are chosen on the test set, and whether ours is *{ABOVE}* it, *{BELOW}* it, or *{LEVEL}* with it: "
        "that is when it lies in our 95 % interval over seeds (in square brackets) or within "
        f"{TOLERANCE} percentage points of our mean. With a single seed there is no interval, and the latter alone decides.",
    ]
    sources = list(dict.fromkeys(source for _, methods, body in tables if body for _, source in methods))
    for caption, methods, body in tables:
        lines += ["", f"**{caption}**", ""]
        if body:
            heads = [f"{method} [{sources.index(source) + 1}]" for method, source in methods]
            lines += markdown(["category", "ours, last", "ours, best", *heads], body)
        else:
            lines.append("Nothing of ours is measured here yet.")
    return [*lines, *(["", "Sources:", ""] if sources else []), *(f"- [{i}] {source}" for i, source in enumerate(sources, 1))]


def _means_first(table: list[Row]) -> list[Row]:
    """Without the mean over the complete categories alone, which has no published counterpart."""
    return sorted((row for row in table if row.category), key=lambda row: row.category != MEAN)


def _ours(setting: Setting, row: Row, metric: str) -> list[str]:
    if row.lacks.get(metric):
        return [row.lacks[metric], ""]
    record = figures_of("", setting, row, metric)
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
    """ "74.6 ± 7.6 (+3.20 above)"; the number alone where ours says that it is not measured."""
    text = of["published"] + (f" ± {of['published_sd']}" if of["published_sd"] else "")
    if of["verdict_last"] == NOT_MEASURED:
        return text
    return f"{text} ({of['last_minus_published']} {of['verdict_last']})"
