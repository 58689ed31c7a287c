"""The facts of presets.yaml as typed objects: what is known about the data sets that can be downloaded.

Imports nothing heavy, since the workflow reads it each time it is parsed.
"""

from functools import cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel


class Preset(BaseModel, frozen=True, extra="forbid"):
    """One data set that can be downloaded.

    ``counts[category]`` gives a number of images for ``train`` (normal images to train on), ``good`` (normal test
    images) and each defect type, in both layouts. ``empty_masks[category]`` is how many masks may mark no pixel.
    """

    layout: Literal["mvtec", "btad"]
    licence: str  # the line to show before a download
    landing_page: str
    urls: list[str]  # the same archive, in the order to try
    sha256: str
    size_bytes: int | None
    category_urls: dict[str, str]  # an archive a category; empty where there are none
    grayscale: frozenset[str]
    textures: frozenset[str]
    counts: dict[str, dict[str, int]]
    empty_masks: dict[str, int] = {}


@cache
def presets() -> dict[str, Preset]:
    """Every preset by the name of its data set."""
    with Path(__file__).with_name("presets.yaml").open(encoding="utf-8") as file:
        return {name: Preset(**facts) for name, facts in yaml.safe_load(file).items()}


def dataset(name: str) -> Preset | None:
    """The preset of ``name``, or None for a data set of one's own, whose facts are read from its folders."""
    return presets().get(name)
