"""Snakemake in a process forked from one that has its libraries loaded; loading them takes two thirds of a dry run's time."""

import os
import sys
from multiprocessing import get_context
from pathlib import Path

FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(["snakemake.cli", "snakemake.report.html_reporter", "numpy", "PIL.Image", "scipy", "pydantic"])


def snakemake(folder: Path, arguments: list[str], output: Path) -> int:
    """Runs ``python -m snakemake *arguments`` in ``folder``, its output to the file ``output``; returns the exit status."""
    process = FORKS.Process(target=_run, args=(folder, arguments, output, dict(os.environ)))
    process.start()
    try:
        process.join()
    finally:
        process.kill()  # if the wait was interrupted
    assert process.exitcode is not None
    return process.exitcode


def _run(folder: Path, arguments: list[str], output: Path, environment: dict[str, str]) -> None:
    from snakemake.cli import main

    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path.insert(0, str(folder))  # as -m does
    with output.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    main(arguments)
