"""Names that users choose: of categories, defect types and images, which end up in paths, commands and reports.

Paths, commands and reports reserve characters that such a name must not contain. The names of data sets, suites, recipes and
methods have stricter rules (Name in settings.py).
"""

import unicodedata
from collections.abc import Iterable
from pathlib import Path

from bgad.errors import DataError

# Braces are Snakemake's wildcards. To a cluster, Snakemake sends a job's wildcards as one word of a shell command, with
# Python's quotes instead of the shell's and with commas between them. The other characters are Markdown's, or not allowed in
# file names everywhere.
FORBIDDEN = frozenset('{},"$`/\\<>|*?[]')
FORMULA = frozenset("-=+@")  # a spreadsheet takes text that begins with one of these for a formula
NOT_FIRST = FORMULA | {"."}  # hidden files; and - begins an option too
MOST_SEED = 999_999_999  # a number in a cell's path has at most nine digits, enough for a date such as 20261128
LONGEST = 150  # bytes: a file system allows 255, and steps append to a name


def check_names(names: Iterable[str], what: str, folder: Path) -> None:
    """DataError for the first of ``names``, folders in ``folder``, not allowed for ``what`` (a category, a defect type), and
    for two names that some systems take for the same: they differ only in case or in how an accent is written."""
    seen: dict[str, str] = {}
    for name in names:
        if problem := _problem(name):
            raise DataError(f"{shown(folder / name)}: the name of {what} {problem}; rename the folder.")
        same = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
        if seen.setdefault(same, name) != name:
            raise DataError(
                f"{shown(folder / name)}: differs from {seen[same]!r} only in case or in how its accents are written, which "
                "some systems take for the same name; rename one of the two."
            )


def check_file_name(path: Path) -> None:
    """DataError for an image whose name has line breaks or other unprintable characters, braces, or is not UTF-8."""
    if not path.name.isprintable() or {"{", "}"} & {*path.name}:
        raise DataError(f"{shown(path)}: the name has braces or an unprintable character; rename the file.")


def check_text(text: str) -> str:
    """``text`` from a result that reports will show; ValueError if a terminal, Markdown or a spreadsheet could take it for more
    than text: unprintable characters, backticks, or the beginning of a formula."""
    if not text.isprintable() or "`" in text or text[:1] in FORMULA:
        raise ValueError("has a backtick or an unprintable character, or begins like a formula")
    return text


def shown(text: object) -> str:
    """A path or a sentence as one line of plain text, with escapes for characters that a terminal could act on."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in str(text))


def _problem(name: str) -> str | None:
    if not name.isprintable():
        return "has a line break or another unprintable character, or is not UTF-8"
    if wrong := FORBIDDEN & {*name}:
        return f"may not contain {min(wrong)}"
    if name[:1] in NOT_FIRST:
        return f"may not begin with {name[0]}"
    if name != name.strip() or not name:
        return "may not begin or end with a space"
    if len(name.encode()) > LONGEST:
        return f"is longer than {LONGEST} bytes"
    return None
