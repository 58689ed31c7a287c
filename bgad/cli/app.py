"""The Typer application that every command registers with, and the entry point."""

import gc
import io
import sys
from typing import Annotated

import typer
from typer import Option

from bgad import __version__
from bgad.config.names import shown
from bgad.errors import BgadError
from bgad.memory import is_out_of_memory, out_of_memory

app = typer.Typer(
    help="BGAD (CVPR 2023) as a reproducible benchmark. `snakemake --cores all reports/demo/table.md` runs all steps; each is "
    "also a command here.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """Runs the command line. A BgadError, or a lack of memory, prints one sentence and exits with status 1."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # for those who follow a log
    # Imports create objects that all stay alive: collecting garbage among them took a tenth of the time.
    gc.set_threshold(100_000)
    try:
        app()
    except BgadError as error:
        print(f"error: {shown(error)}", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        print(f"error: {out_of_memory(error)}", file=sys.stderr)
        sys.exit(1)


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, Option("--version", help="Print the version and exit.")] = False) -> None:
    if show:
        print(__version__)
        raise typer.Exit
