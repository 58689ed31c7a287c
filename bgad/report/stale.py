"""Whether a cell is up to date: compares the hashes of its recipe, split, images, features and code with today's.

A stale cell is left out of every table until it is made again. A missing file proves nothing, since a table can be made from
results that were copied without their split files. A damaged file cannot be the one that the cell was made with.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bgad.config import paths
from bgad.config.cells import Cell
from bgad.config.provenance import method_sha256
from bgad.config.settings import Recipe, load_recipe
from bgad.data.layouts import Index
from bgad.data.splits import Split, file_of
from bgad.errors import BgadError, FileError
from bgad.io import read_json

STALE = "stale: "
SAME, CHANGED, GONE = "unchanged", "changed", "missing today"
DAMAGED = "damaged"  # instead of a hash; equals no hash
PARTS = {
    "recipe_sha256": "recipe",
    "split_sha256": "split",
    "index_sha256": "images",
    "features_sha256": "features",
    "source_sha256": "code",
}


class Today:
    """Today's recipes, splits, indexes and features in the project ``root``, and this package's code.

    Each is read and hashed once.
    """

    def __init__(self, root: Path = Path()):
        self._root = root
        self._read, self._code = cache(self._read_once), cache(method_sha256)

    def recipe(self, cell: Cell) -> Recipe | None:
        """None if its file is missing or damaged."""
        return self._read(load_recipe, paths.recipe_file(cell.recipe))[0]

    def split(self, cell: Cell) -> tuple[str | None, Split | None]:
        """The path and content of the cell's split file; each is None if not known."""
        recipe = self.recipe(cell)
        if recipe is None:
            return None, None
        file = file_of(recipe, vars(cell))
        return file, self._read(Split.load, file)[0]

    def features(self, cell: Cell) -> str | None:
        """The folder of the cell's feature cache; None if its recipe is not known."""
        if (recipe := self.recipe(cell)) is None:
            return None
        return paths.FEATURES.format(**vars(cell), backbone=recipe.backbone, image_size=recipe.image_size)

    def sha256(self, cell: Cell) -> dict[str, str | None]:
        """The hashes under PARTS that the cell would have today: None for a missing file, DAMAGED for a bad one."""
        file, _ = self.split(cell)
        features = self.features(cell)
        return {
            "recipe_sha256": self._read(load_recipe, paths.recipe_file(cell.recipe))[1],
            "split_sha256": self._read(Split.load, file)[1] if file else None,
            "index_sha256": self._read(Index.load, paths.INDEX.format(**vars(cell)))[1],
            "features_sha256": self._read(_Features.load, f"{features}/features.json")[1] if features else None,
            "source_sha256": self._code(cell.method),
        }

    def stale(self, cell: Cell, made_with: Mapping[str, str | None]) -> str | None:
        """The status of a stale cell, else None; ``made_with`` are the hashes in its metrics.json, empty where it has none."""
        now = self.sha256(cell)
        changed = [what for key, what in PARTS.items() if made_with[key] and against(made_with[key], now[key]) == CHANGED]
        return f"{STALE}{' and '.join(changed)} changed since it was trained; run the suite again" if changed else None

    def _read_once(self, reader: Callable[[Path], Any], file: Path | str) -> tuple[Any, str | None]:
        path = self._root / file
        try:
            found = reader(path)
        except BgadError:
            return None, DAMAGED if path.exists() else None
        return found, found.sha256


@dataclass(frozen=True)
class _Features:
    """The hash in the record of a feature cache. bgad/features/cache.py reads all of it, but takes seconds to import."""

    sha256: str

    @classmethod
    def load(cls, path: Path) -> "_Features":
        values = read_json(path)
        if not isinstance(values, dict) or not isinstance(values.get("sha256"), str):
            raise FileError(f"{path}: not the record of a feature cache; delete its folder and run again.")
        return cls(values["sha256"])


def against(then: str | None, today: str | None) -> str:
    """SAME, CHANGED, or GONE if there is no hash today to compare with."""
    return GONE if today is None else SAME if today == then else CHANGED
