"""What a change of recipe does: the cells of each recipe against those of a reference, paired over seeds, with intervals."""

from collections.abc import Iterator

import pandas as pd

from bgad.report.averages import paired, settings
from bgad.report.collect import Collected
from bgad.report.published import PUBLISHED_RECIPE
from bgad.report.tables.differences import (
    READING,
    Difference,
    any_measured,
    chance,
    counted,
    difference_records,
    difference_table,
)
from bgad.report.tables.format import Section, several

HEADING = "## What each recipe changes"
SAME = ["dataset", "kind", "category", "split", "k", "method", "seed"]


def recipes_section(collected: Collected) -> Section:
    """Each recipe against the published one, or else the suite's first; nothing for a suite with a single recipe."""
    metrics = collected.metrics
    recipes = list(metrics["recipe"].unique())
    if len(recipes) < 2:
        return [], []
    reference = PUBLISHED_RECIPE if PUBLISHED_RECIPE in recipes else recipes[0]
    found = list(_differences(metrics, reference))
    if not found:
        return [HEADING, "", f"Nothing to compare: no other recipe of this suite has the same cells as `{reference}`."], []
    if not any_measured(found):
        return [HEADING, "", "No pair of cells is measured yet, so there is nothing to compare."], []

    records = difference_records("recipes", found)
    table = difference_table(found, several([one.setting for one in found], ["dataset"]), _what)
    introduction = [
        f"Each recipe minus `{reference}`: differences of the last epochs in percentage points, between cells of the same "
        f"category, split, k, method and seed. {READING}{chance(records)}",
        "",
    ]
    for asks in dict.fromkeys(one.asks for one in found):
        introduction.append(f"- **{asks}**: {counted(one for one in found if one.asks == asks)}.")
    introduction += _other_draws(collected.origins, reference)
    return [HEADING, "", *introduction, "", *table], records


def _differences(metrics: pd.DataFrame, reference: str) -> Iterator[Difference]:
    """Every setting of another recipe that shares cells with ``reference``, measured or not."""
    base = metrics[metrics["recipe"] == reference]
    for setting, part in settings(metrics[metrics["recipe"] != reference]):
        pairs = paired(part, base, SAME)
        if not pairs.empty:
            yield Difference.of(f"{setting.recipe} - {reference}", setting, reference, "", pairs)


def _what(one: Difference) -> dict[str, str]:
    return {"difference": one.asks, "method": one.setting.method}


def _other_draws(origins: pd.DataFrame, reference: str) -> list[str]:
    """A sentence for each recipe with measured cells whose split differs from their counterpart's."""
    base = origins[origins["recipe"] == reference]
    pairs = origins[origins["recipe"] != reference].merge(base, on=SAME, suffixes=("", "_base"))
    lines = []
    for recipe, of in pairs.groupby("recipe", sort=False):
        others = int((of["split_sha256"] != of["split_sha256_base"]).sum())
        if others:
            text = (
                f"In {others} of {len(of)} measured pairs, `{recipe}` and `{reference}` draw different known anomalies and "
                "test images, so the difference includes the effect of the draw."
            )
            lines += ["", text]
    return lines
