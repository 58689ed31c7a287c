"""The facts of presets.yaml as typed objects: what is known about the data sets that can be downloaded."""

from functools import cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel


class Preset(BaseModel, frozen=True, extra="forbid"):
    """One data set that can be downloaded.

    ``counts[category]`` gives the number of images for ``train`` (normal images to train on), ``good`` (normal test images)
    and each defect type, in both layouts. ``empty_masks[category]``: how many masks may mark no pixel.
    """

    layout: Literal["mvtec", "btad"]
    licence: str  # the line to show before a download
    landing_page: str
    urls: list[str]  # the same archive, in the order to try
    sha256: str
    size_bytes: int | None
    category_urls: dict[str, str]  # one archive for each category, or empty
    grayscale: frozenset[str]
    textures: frozenset[str]
    counts: dict[str, dict[str, int]]
    empty_masks: dict[str, int] = {}


@cache
def presets() -> dict[str, Preset]:
    """All presets by the name of their data set."""
    with Path(__file__).with_name("presets.yaml").open(encoding="utf-8") as file:
        return {name: Preset(**facts) for name, facts in yaml.safe_load(file).items()}


def dataset(name: str) -> Preset | None:
    """The preset of ``name``, or None for your own data set, whose facts come from its folders."""
    return presets().get(name)
