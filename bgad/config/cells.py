"""Cells, and how suites expand to them. A cell is one training: the unit of work, caching, re-running and failure."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from bgad.config import paths
from bgad.config.methods import names as method_names
from bgad.config.names import from_path
from bgad.config.settings import NAME, Block, Method, Suite, validated
from bgad.errors import ConfigError

# (data set) -> {category: {defect type: number of images}}, types in order
Catalogue = Callable[[str], Mapping[str, dict[str, int]]]


@dataclass(frozen=True, order=True)
class Cell:
    """recipe x data set x category x split x k x method x seed."""

    recipe: str
    dataset: str
    category: str
    split: str
    k: int
    method: Method
    seed: int

    @property
    def folder(self) -> Path:
        return Path(paths.CELL.format(**vars(self)))  # planning asks thousands of times, and asdict is slow

    @property
    def training(self) -> "Cell":
        """The cell that trains this one's model: with k 0 the one on ``seen``, since the split changes only the test set."""
        return self if self.k else replace(self, split="seen")

    @classmethod
    def of_folder(cls, folder: Path) -> "Cell":
        """The cell of a folder; ConfigError if the path is not a cell's, or names an unknown method."""
        pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(paths.CELL))
        match = re.search(f"(?:^|/){pattern}$", Path(folder).as_posix())
        if not match or not all(re.fullmatch("[0-9]{1,9}", match[number]) for number in ("k", "seed")):
            raise ConfigError(f"{folder}: not the folder of a cell; it must look like {paths.CELL}.")
        names, methods = {key: from_path(part) for key, part in match.groupdict().items()}, method_names()
        for part in ("recipe", "dataset"):
            if not re.fullmatch(NAME, names[part]):
                raise ConfigError(f"{folder}: {names[part]} cannot be the name of a {part}; use letters, digits, _, . and -.")
        if names["method"] not in methods:
            raise ConfigError(f"{folder}: there is no method {names['method']}; use {', '.join(methods)}.")
        return cls(k=int(names.pop("k")), seed=int(names.pop("seed")), **names)

    @classmethod
    def located(cls, folder: Path) -> tuple["Cell", Path]:
        """The cell of a folder, and the absolute path of the folder that holds its ``results``."""
        folder = Path(folder).absolute()
        cell = cls.of_folder(folder)
        return cell, folder.parents[len(cell.folder.parts) - 1]


def expand(suite: Suite, catalogue: Catalogue) -> list[Cell]:
    """The cells of a suite, in the order of its grid, each once.

    ``catalogue(dataset)`` gives the categories of a data set with their defect types and numbers of images. ``hard-*`` is
    every type with at least k images that leaves another type to test on; see ``left_out``. ConfigError names a category
    or type that the data set does not have, or a type named in ``hard-<type>`` with fewer images than k.
    """
    return list(_grid(suite, catalogue)[0])


def left_out(suite: Suite, catalogue: Catalogue) -> list[str]:
    """What ``hard-*`` skips in a suite, each with the reason: "wood hard-color k10: the type has 8 images"."""
    return list(_grid(suite, catalogue)[1])


def with_examples(cells: list[Cell]) -> list[Cell]:
    """The cells whose known anomalies are shown as CutPaste examples: the first of each category, seen before hard."""
    first: dict[tuple[str, str], Cell] = {}
    for cell in sorted((cell for cell in cells if cell.k), key=lambda cell: cell.split != "seen"):
        first.setdefault((cell.dataset, cell.category), cell)
    return list(first.values())


def check(cell: Cell, catalogue: Catalogue) -> None:
    """ConfigError if the cell cannot exist: an unknown category or type, or a k that its method or type does not allow."""
    lists = {"splits": [cell.split], "k": [cell.k], "methods": [cell.method], "seeds": [cell.seed]}
    values = {"recipe": cell.recipe, "dataset": cell.dataset, "categories": [cell.category], **lists}
    block = validated(Block, values, cell.folder.as_posix())
    expand(Suite(title=cell.folder.as_posix(), question="", grid=[block]), catalogue)


def _grid(suite: Suite, catalogue: Catalogue) -> tuple[dict[Cell, None], dict[str, None]]:
    """The cells of a suite, and the sentences about what was left out, both in order and each once."""
    cells: dict[Cell, None] = {}
    left: dict[str, None] = {}
    for block, category, types in _categories(suite, catalogue):
        for name in block.splits:
            splits = _splits(suite.title, name, category, types)
            if not splits:
                reason = "its only type leaves none to test on" if types else "it has no defect types"
                left[f"{category} {name}: {reason}"] = None
            for split, k in product(splits, block.k):
                if split == "seen" or k <= (count := types[split.removeprefix("hard-")]):
                    for method, seed in product(block.methods, block.seeds):
                        cells[Cell(block.recipe, block.dataset, category, split, k, method, seed)] = None
                    continue
                why = f"the type has {count} image{'s' if count > 1 else ''}"
                if name != "hard-*":
                    raise ConfigError(f"{suite.title}: {category} has no {split} with k {k}: {why}; ask for a smaller k.")
                left[f"{category} {split} k{k}: {why}"] = None
    return cells, left


def _categories(suite: Suite, catalogue: Catalogue) -> Iterator[tuple[Block, str, dict[str, int]]]:
    """Each block of a suite with each of its categories and the category's defect types."""
    for block in suite.grid:
        known = catalogue(block.dataset)
        for category in known if block.categories == "all" else block.categories:
            if category not in known:
                raise ConfigError(
                    f"{suite.title}: data set {block.dataset} has no category {category}; it has {', '.join(known)}."
                )
            yield block, category, known[category]


def _splits(title: str, name: str, category: str, types: dict[str, int]) -> list[str]:
    """The splits that a name in a suite expands to; none if hard-* would leave no type to test on."""
    every = [f"hard-{kind}" for kind in types]
    if name == "hard-*":
        return every if len(every) > 1 else []
    if name == "seen" or name in every:
        return [name]
    raise ConfigError(
        f"{title}: category {category} has no split {name}; use seen, hard-* or hard-<type> with one of {', '.join(types)}."
    )
