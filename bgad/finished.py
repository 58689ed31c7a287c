"""What a finished cell keeps until Snakemake has recorded it.

A run that is killed between a cell's end and its record leaves the cell marked incomplete: the next run takes its files away
and has it made again. So .finished in its folder holds second names of them (hard links, which take no room) with the key of
what the cell was made from, and a cell that is made again from the same has its files back without any training. The workflow
removes .finished as soon as the record is there (workflow/rules/common.smk), so that a forced run trains.
"""

import os
import shutil
from pathlib import Path

from bgad.config.paths import CELL_FILES
from bgad.io import whole

FOLDER = ".finished"


def keep(folder: Path, key: str) -> None:
    """Gives the files of the cell in ``folder`` their second names; nothing where one is missing or there are no hard links."""
    building = folder / f"{FOLDER}.{os.getpid()}"
    try:
        forget(folder)
        for name in CELL_FILES:
            second = building / name
            second.parent.mkdir(parents=True, exist_ok=True)
            os.link(folder / name, second)
        (building / "key").write_text(key, encoding="utf-8")
        building.rename(folder / FOLDER)
    except OSError:  # a file is gone, or a file system without hard links, or a full one: the cell is then made again
        shutil.rmtree(building, ignore_errors=True)


def bring_back(folder: Path, key: str, just_made: bool = False) -> bool:
    """Gives what was kept under that ``key`` its places in ``folder`` again, metrics.json last.

    False where nothing was kept, or not all, or the cell is there: then it is to be made anew, but if it was ``just_made`` by
    a process that outlived its run.
    """
    kept = folder / FOLDER
    try:
        if not just_made and (folder / "metrics.json").exists():
            return False
        # Some are missing where a run was killed while it forgot them.
        if any(not (kept / name).exists() for name in CELL_FILES) or (kept / "key").read_text(encoding="utf-8") != key:
            return False
        for name in reversed(CELL_FILES):
            with whole(folder / name) as temporary:
                os.link(kept / name, temporary)
    except FileNotFoundError:
        return False
    return True


def forget(folder: Path) -> None:
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
