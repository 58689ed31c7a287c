"""Cells, and the suites that expand to them. A cell is one training: the unit of work, caching, re-running and failure."""

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

from bgad import paths
from bgad.errors import BgadError
from bgad.settings import Block, Suite, validated

# (data set) -> {category: defect types in order}
Catalogue = Callable[[str], dict[str, tuple[str, ...]]]


@dataclass(frozen=True, order=True)
class Cell:
    """recipe x data set x category x split x k x method x seed."""

    recipe: str
    dataset: str
    category: str
    split: str
    k: int
    method: str
    seed: int

    @property
    def folder(self) -> Path:
        return Path(paths.CELL.format(**asdict(self)))

    @classmethod
    def of_folder(cls, folder: Path) -> "Cell":
        """The cell whose folder that is; BgadError if the path is not one of a cell."""
        pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(paths.CELL))
        match = re.search(f"(?:^|/){pattern}$", Path(folder).as_posix())
        if not match or not match["k"].isdecimal() or not match["seed"].isdecimal():
            raise BgadError(f"{folder}: not the folder of a cell; it must look like {paths.CELL}.")
        return cls(**{**match.groupdict(), "k": int(match["k"]), "seed": int(match["seed"])})

    @property
    def without_seed(self) -> "Cell":
        """The same cell at seed -1: what cells that differ in their seed alone have in common."""
        return replace(self, seed=-1)


def expand(suite: Suite, catalogue: Catalogue) -> list[Cell]:
    """The cells of a suite, in the order of its grid, each once.

    ``catalogue(dataset)`` gives the categories of a data set with their defect types. BgadError names a category or type
    that the data set does not have.
    """
    cells = {}
    for block in suite.grid:
        known = catalogue(block.dataset)
        categories = list(known) if block.categories == "all" else block.categories
        for category in categories:
            if category not in known:
                raise BgadError(
                    f"{suite.title}: data set {block.dataset} has no category {category}; it has {', '.join(known)}."
                )
            splits = list(_splits(suite.title, block.splits, category, known[category]))
            for split, k, method, seed in product(splits, block.k, block.methods, block.seeds):
                cells[Cell(block.recipe, block.dataset, category, split, k, method, seed)] = None
    return list(cells)


def check(cell: Cell, catalogue: Catalogue) -> None:
    """BgadError if there can be no such cell: an unknown category or type, or a method that does not go with k."""
    lists = {"splits": [cell.split], "k": [cell.k], "methods": [cell.method], "seeds": [cell.seed]}
    values = {"recipe": cell.recipe, "dataset": cell.dataset, "categories": [cell.category], **lists}
    block = validated(Block, values, cell.folder.as_posix())
    expand(Suite(title=cell.folder.as_posix(), question="", grid=[block]), catalogue)


def _splits(title: str, names: list[str], category: str, types: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        if name == "hard-*":
            # With a single type nothing would be left to test on.
            yield from (f"hard-{t}" for t in types if len(types) > 1)
        elif name == "seen" or name in {f"hard-{t}" for t in types}:
            yield name
        else:
            raise BgadError(
                f"{title}: category {category} has no split {name}; "
                f"use seen, hard-* or hard-<type> with one of {', '.join(types)}."
            )
