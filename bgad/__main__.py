"""``python -m bgad``: the same as the command ``bgad``."""

from bgad.cli import main

main()
