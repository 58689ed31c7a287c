"""The command ``bgad``, one file per group of commands.

Heavy modules are imported inside the commands that need them, so ``bgad --help`` answers at once.
"""

from bgad.cli import export, images, look, reports, steps, view  # noqa: F401  their commands register themselves
from bgad.cli.app import main

__all__ = ["main"]
