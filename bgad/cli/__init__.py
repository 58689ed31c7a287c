"""The command ``bgad``: a file for each group of its commands.

Imports of the heavy modules wait until a command needs them, so that ``bgad --help`` answers at once.
"""

from bgad.cli import export, look, pictures, reports, steps, view  # noqa: F401  whose commands join the application
from bgad.cli.app import main

__all__ = ["main"]
