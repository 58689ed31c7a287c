"""``python -m bgad`` is the command ``bgad``."""

from bgad.cli import main

main()
