"""Whether a cell's figures are of today: the recipe, split and code that made them against those that are there now.

A cell that was made with others is stale, and no part of any table until it is made again. What is not there today says
nothing: a table can be made of results that were copied to a machine without the split files. What is there and cannot be read
is not what made the cell.
"""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from bgad.config import paths
from bgad.config.cells import Cell
from bgad.config.provenance import method_sha256
from bgad.config.settings import Recipe, load_recipe
from bgad.data.splits import Split, file_of
from bgad.errors import BgadError

STALE = "stale: "
SAME, CHANGED, GONE = "as today", "changed since", "not there today"
DAMAGED = "damaged"  # in the place of a hash, which it is none of
PARTS = {"recipe_sha256": "recipe", "split_sha256": "split", "source_sha256": "code"}


class Today:
    """The recipes and splits of the project in ``root`` and the code of this package, each read and hashed once."""

    def __init__(self, root: Path = Path()):
        self._root = root
        self._read, self._code = cache(self._read_anew), cache(method_sha256)

    def recipe(self, cell: Cell) -> Recipe | None:
        """None where its file is gone or is none any more."""
        return self._read(load_recipe, paths.recipe_file(cell.recipe))[0]

    def split(self, cell: Cell) -> tuple[str | None, Split | None]:
        """The file of the cell's split, and what is in it where it is there and whole."""
        recipe = self.recipe(cell)
        if recipe is None:
            return None, None
        file = file_of(recipe, vars(cell))
        return file, self._read(Split.load, file)[0]

    def sha256(self, cell: Cell) -> dict[str, str | None]:
        """What the keys of PARTS would be in the cell's metrics.json if it were made now; None where that is not known, and
        DAMAGED where a file cannot be read."""
        file, _ = self.split(cell)
        return {
            "recipe_sha256": self._read(load_recipe, paths.recipe_file(cell.recipe))[1],
            "split_sha256": self._read(Split.load, file)[1] if file else None,
            "source_sha256": self._code(cell.method),
        }

    def stale(self, cell: Cell, made_with: Mapping[str, str | None]) -> str | None:
        """The status of a cell with the hashes ``made_with``, those of its metrics.json, that is stale; else None."""
        now = self.sha256(cell)
        changed = [what for key, what in PARTS.items() if against(made_with[key], now[key]) == CHANGED]
        return f"{STALE}{' and '.join(changed)} changed since it was trained; run the suite again" if changed else None

    def _read_anew(self, reader: Callable[[Path], Any], file: Path | str) -> tuple[Any, str | None]:
        path = self._root / file
        try:
            found = reader(path)
        except BgadError:
            return None, DAMAGED if path.exists() else None
        return found, found.sha256


def against(then: str | None, today: str | None) -> str:
    """SAME, CHANGED, or GONE where there is nothing today to hold a hash against."""
    return GONE if today is None else SAME if today == then else CHANGED
