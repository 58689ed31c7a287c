"""Where a cell came from: `bgad train` leaves a record in the cell's folder, for later commands on the cell and its copies."""

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from bgad.config.cells import Cell
from bgad.errors import ConfigError, FileError
from bgad.io import read_json, write_json

ORIGIN = "origin.json"


@dataclass(frozen=True)
class Origin:
    """``project``: the project's folder; ``images``: the data set's folder, above its categories; ``command``: the words of the
    command that makes the cell again."""

    project: str
    images: str
    command: tuple[str, ...]

    def save(self, folder: Path) -> None:
        write_json(folder / ORIGIN, asdict(self))


def origin_of(folder: Path) -> Origin | None:
    """The record in ``folder``; None for a cell that `bgad train` did not make. FileError if it is damaged."""
    file = folder / ORIGIN
    if not file.is_file():
        return None
    try:
        return TypeAdapter(Origin).validate_python(read_json(file))
    except ValidationError as error:
        raise FileError(f"{file}: damaged; run bgad train on the cell's images again.") from error


def located(folder: Path) -> tuple[Cell, Path]:
    """The cell in ``folder``, identified by its path or, for a copy, by its metrics.json; and its project's folder.

    ConfigError if the folder is neither a cell's nor such a copy; FileError if the record of a copy is damaged.
    """
    try:
        return Cell.located(folder)
    except ConfigError:
        origin = origin_of(folder)
        if origin is None:
            raise
    try:
        return TypeAdapter(Cell).validate_python(read_json(folder / "metrics.json")["cell"]), Path(origin.project)
    except (KeyError, TypeError, ValidationError) as error:
        raise FileError(f"{folder / 'metrics.json'}: damaged; copy the cell again.") from error


def command_for(folder: Path, name: str) -> str:
    """The command that makes the file ``name`` of the cell in ``folder`` again, whether it is missing or damaged."""
    if origin := origin_of(folder):
        return shlex.join(origin.command)
    cell, root = Cell.located(folder)
    place = "" if root == Path.cwd() else f"cd {shlex.quote(str(root))} && "
    force = "-f " if (folder / name).exists() else ""
    target = shlex.quote((cell.folder / name).as_posix())  # a category may have spaces in its name
    return f"{place}snakemake --cores all {force}{target}"
