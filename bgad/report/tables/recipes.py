"""What a change of recipe does: the cells of each recipe against those of a reference, paired over seeds, with intervals."""

from collections.abc import Iterator

import pandas as pd

from bgad.report.averages import paired, settings
from bgad.report.collect import Collected
from bgad.report.published import PUBLISHED_RECIPE
from bgad.report.tables.differences import Difference, difference_section
from bgad.report.tables.format import Section

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
    if_none = f"Nothing to compare: no other recipe of this suite has the same cells as `{reference}`."
    introduction = (
        f"Each recipe minus `{reference}`: differences of the last epochs in percentage points, between cells of the same "
        f"category, split, k, method and seed.{_other_draws(collected.origins, reference)}"
    )
    return difference_section(HEADING, "recipes", found, introduction, if_none, ("dataset", "method"))


def _differences(metrics: pd.DataFrame, reference: str) -> Iterator[Difference]:
    """Every setting of another recipe that shares cells with ``reference``, measured or not."""
    base = metrics[metrics["recipe"] == reference]
    for setting, part in settings(metrics[metrics["recipe"] != reference]):
        pairs = paired(part, base, SAME)
        if not pairs.empty:
            yield Difference.of(f"{setting.recipe} - {reference}", setting, reference, "", pairs)


def _other_draws(origins: pd.DataFrame, reference: str) -> str:
    """A sentence for each recipe with measured cells whose split differs from their counterpart's."""
    base = origins[origins["recipe"] == reference]
    pairs = origins[origins["recipe"] != reference].merge(base, on=SAME, suffixes=("", "_base"))
    text = ""
    for recipe, of in pairs.groupby("recipe", sort=False):
        if others := int((of["split_sha256"] != of["split_sha256_base"]).sum()):
            text += (
                f" In {others} of {len(of)} measured pairs, `{recipe}` and `{reference}` draw different known anomalies and "
                "test images, so the difference includes the effect of the draw."
            )
    return text
