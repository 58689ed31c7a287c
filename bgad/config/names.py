"""What categories, defect types and pictures of one's own may be called: their names become parts of paths, of commands and of
reports, and each of these has signs of its own that a name must not have.

The names of data sets, suites, recipes and methods are narrower still (Name in settings.py).
"""

import unicodedata
from collections.abc import Iterable
from pathlib import Path

from bgad.errors import BgadError

# Braces are Snakemake's wildcards. To a cluster Snakemake sends a job's wildcards as one word of a shell command, in Python's
# quotes instead of the shell's, and tells them apart by commas. The others are Markdown's, or not in file names everywhere.
FORBIDDEN = frozenset('{},"$`/\\<>|*?[]')
FORMULA = frozenset("-=+@")  # with these a spreadsheet lets one begin
NOT_FIRST = FORMULA | {"."}  # hidden files; and a - begins an option too
LONGEST = 150  # bytes: a file system allows 255, and a step adds to a name


def check_names(names: Iterable[str], what: str, folder: Path) -> None:
    """BgadError for the first of ``names``, folders of ``folder``, that ``what`` (a category, a defect type) cannot have, and
    for two that some systems take for the same: that differ in case alone, or in how an accent is written."""
    seen: dict[str, str] = {}
    for name in names:
        if problem := _problem(name):
            raise BgadError(f"{shown(folder / name)}: the name of {what} {problem}; rename the folder.")
        same = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
        if seen.setdefault(same, name) != name:
            raise BgadError(
                f"{shown(folder / name)}: differs from {seen[same]!r} in case or in how its accents are written alone, which "
                "some systems take for the same name; rename one of the two."
            )


def check_file_name(path: Path) -> None:
    """BgadError for a picture whose name holds line breaks or other signs that cannot be seen, braces, or no UTF-8."""
    if not path.name.isprintable() or {"{", "}"} & {*path.name}:
        raise BgadError(f"{shown(path)}: the name holds braces or a sign that cannot be seen; rename the file.")


def check_text(text: str) -> str:
    """``text`` of a result that reports are to show; ValueError where it could be more than text to a terminal, in Markdown or
    to a spreadsheet: signs that cannot be seen, backticks, or the beginning of a formula."""
    if not text.isprintable() or "`" in text or text[:1] in FORMULA:
        raise ValueError("holds a backtick or a sign that cannot be seen, or begins like a formula")
    return text


def shown(text: object) -> str:
    """A path or a sentence in one line of plain text, whatever signs it has: nothing for a terminal to obey."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in str(text))


def _problem(name: str) -> str | None:
    if not name.isprintable():
        return "holds a line break or another sign that cannot be seen, or is no UTF-8"
    if wrong := FORBIDDEN & {*name}:
        return f"may not hold {min(wrong)}"
    if name[:1] in NOT_FIRST:
        return f"may not begin with {name[0]}"
    if name != name.strip() or not name:
        return "may not begin or end with a space"
    if len(name.encode()) > LONGEST:
        return f"is longer than {LONGEST} bytes"
    return None
