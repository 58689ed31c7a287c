"""What the recipes of a suite change: their cells against those of one recipe, paired over seeds, with intervals."""

from collections.abc import Iterator

import pandas as pd

from bgad.report.collect import Collected
from bgad.report.differences import READING, Difference, any_measured, chance, counted, difference_tables, paired
from bgad.report.published import PUBLISHED_RECIPE
from bgad.report.statistics import settings
from bgad.report.tables.format import Section

HEADING = "## What the recipes' differences make"
SAME = ["dataset", "kind", "category", "split", "k", "method", "seed"]


def recipes_section(collected: Collected) -> Section:
    """Each recipe against the published one, or against the suite's first; nothing for a suite with a single recipe."""
    figures = collected.figures
    recipes = list(figures["recipe"].unique())
    if len(recipes) < 2:
        return [], []
    reference = PUBLISHED_RECIPE if PUBLISHED_RECIPE in recipes else recipes[0]
    found = list(_differences(figures, reference))
    if not found:
        return [HEADING, "", f"No other recipe of this suite has cells as those of `{reference}`: nothing to compare."], []
    if not any_measured(found):
        return [HEADING, "", "No pair of cells that could be compared is measured yet."], []

    lines: list[str] = []
    records: list[dict] = []
    for dataset in figures["dataset"].unique():
        of_dataset = [one for one in found if one.setting.dataset == dataset]
        if of_dataset:
            tables = difference_tables("recipes", of_dataset, ["difference", "method"], _what, records)
            lines += ["", f"### Differences between recipes: {dataset}", "", *tables]
    introduction = [
        f"Each recipe minus `{reference}`: differences of the last epochs, in percentage points, between cells of the same "
        f"category, split, k, method and seed. {READING}",
        "",
    ]
    for asks in dict.fromkeys(one.asks for one in found):
        introduction.append(f"- **{asks}**: {counted(one for one in found if one.asks == asks)}.")
    introduction += _other_draws(collected.origins, reference)
    return [HEADING, "", *introduction, *chance("recipes", records), *lines], records


def _differences(figures: pd.DataFrame, reference: str) -> Iterator[Difference]:
    """Every setting of another recipe that has cells as those of ``reference``, measured or not."""
    base = figures[figures["recipe"] == reference]
    for setting, part in settings(figures[figures["recipe"] != reference]):
        pairs = paired(part, base, SAME)
        if not pairs.empty:
            yield Difference.of(f"{setting.recipe} - {reference}", setting, reference, "", pairs)


def _what(one: Difference) -> list[str]:
    return [one.asks, one.setting.method]


def _other_draws(origins: pd.DataFrame, reference: str) -> list[str]:
    """A sentence for each recipe of which some measured cell has another split than its counterpart."""
    pairs = origins[origins["recipe"] != reference].merge(
        origins[origins["recipe"] == reference], on=SAME, suffixes=("", "_base")
    )
    lines = []
    for recipe, of in pairs.groupby("recipe", sort=False):
        others = int((of["split_sha256"] != of["split_sha256_base"]).sum())
        if others:
            lines += [
                "",
                f"In {others} of {len(of)} measured pairs of `{recipe}` and `{reference}` the known anomalies and the test "
                "images differ, since the two recipes draw them differently, so that the difference holds the draw as well.",
            ]
    return lines
