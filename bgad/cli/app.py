"""The Typer application that every command registers with, and the entry point."""

import gc
import io
import os
import sys
from contextlib import suppress
from typing import Annotated, NoReturn, TextIO

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
    """Runs the command line. A BgadError, a lack of memory, or a failure of the file system or of the outputs prints one
    sentence and exits with status 1."""
    _open_outputs()
    # Imports create objects that all stay alive: collecting garbage among them took a tenth of the time.
    gc.set_threshold(100_000)
    try:
        try:
            app()
        finally:
            sys.stdout.flush()  # while a full disk can still be said
    except BgadError as error:
        _end(error)
    except Exception as error:
        if is_out_of_memory(error):
            _end(out_of_memory(error))
        if not isinstance(error, OSError):
            raise
        if isinstance(error, BrokenPipeError):  # such as `| head`: nobody reads on
            _silence(sys.stdout)
            sys.exit(1)
        if error.filename is None:
            _silence(sys.stdout)
        _end(f"{error.filename or 'standard output'}: {error.strerror or error}; check the path, its permissions and its disk.")


def _end(said: object) -> NoReturn:
    with suppress(OSError):  # nothing else can be done without an error stream
        print(f"error: {shown(said)}", file=sys.stderr)
    sys.exit(1)


def _open_outputs() -> None:
    """Gives both outputs somewhere to go and a way to write any character."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:  # it was closed: the next file that is opened would take its place
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # By line for those who follow a log; escapes where a terminal knows only ASCII.
            stream.reconfigure(line_buffering=True, errors="backslashreplace")


def _silence(stream: TextIO) -> None:
    """Lets what the stream still holds go nowhere; Python would fail again when it flushes the stream at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, Option("--version", help="Print the version and exit.")] = False) -> None:
    if show:
        print(__version__)
        raise typer.Exit
