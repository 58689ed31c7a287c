"""Names that users choose: of categories, defect types and images, which end up in paths, commands and reports.

A name stays as it is wherever data, commands or reports have it. Only in our own paths, and so in Snakemake's patterns, some of
its characters are replaced (``in_path``). The names of data sets, suites, recipes and methods have stricter rules (Name in
settings.py).
"""

import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from bgad.errors import ConfigError, DataError

# Braces are Snakemake's wildcards. To a cluster, Snakemake sends a job's wildcards as one word of a shell command, with
# Python's quotes instead of the shell's and with commas between them; Slurm replaces % in the name of a job's log. Markdown or
# some file systems reserve the others.
RESERVED = re.compile(r"""[{},"$`<>|*?[\]%]|~(?=[0-9A-F]{2})""")
FORMULA = frozenset("-=+@")  # a spreadsheet takes text that begins with one of these for a formula
NOT_FIRST = FORMULA | {"."}  # hidden files; and - begins an option too
MOST_SEED = 999_999_999  # a number in a cell's path has at most nine digits, enough for a date such as 20261128
LONGEST = 150  # bytes, in a path: a file system allows 255, and steps append to a name


@cache
def in_path(name: str) -> str:
    """A name as our paths have it: a RESERVED character becomes ~ and its two hexadecimal digits. Most names are unchanged."""
    return RESERVED.sub(lambda found: f"~{ord(found[0]):02X}", name)


@cache
def from_path(part: str) -> str:
    """The name that ``in_path`` turned into this part of a path; ConfigError for any other part."""
    name = decoded(part)
    if in_path(name) != part:
        raise ConfigError(f"{shown(part)}: no name looks like this in a path; write {shown(in_path(name))}.")
    return name


def decoded(text: str) -> str:
    """``text`` with all names in it as they are outside of paths."""
    return re.sub("~([0-9A-F]{2})", lambda found: chr(int(found[1], 16)), text)


def check_names(names: Iterable[str], what: str, folder: Path) -> None:
    """DataError for the first of ``names``, folders in ``folder``, not allowed for ``what`` (a category, a defect type), and
    for two names that some systems take for the same: they differ only in case or in how an accent is written."""
    seen: dict[str, str] = {}
    for name in names:
        if problem := _problem(name):
            raise DataError(f"{shown(folder / name)}: the name of {what} {problem}; rename the folder.")
        same = unicodedata.normalize("NFC", unicodedata.normalize("NFC", in_path(name)).casefold())
        if seen.setdefault(same, name) != name:
            raise DataError(
                f"{shown(folder / name)}: differs from {seen[same]!r} only in case or in how its accents are written, which "
                "some systems take for the same name; rename one of the two."
            )


def check_file_name(path: Path) -> None:
    """DataError for an image whose name has line breaks or other unprintable characters, or is not UTF-8."""
    if not path.name.isprintable():
        raise DataError(f"{shown(path)}: the name has an unprintable character; rename the file.")


def check_text(text: str) -> str:
    """``text`` from a result that reports will show; ValueError if a terminal or a spreadsheet could take it for more than
    text: unprintable characters, or the beginning of a formula."""
    if not text.isprintable() or text[:1] in FORMULA:
        raise ValueError("has an unprintable character, or begins like a formula")
    return text


def shown(text: object) -> str:
    """A path or a sentence as one line of plain text, with escapes for characters that a terminal could act on."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in str(text))


def _problem(name: str) -> str | None:
    if not name.isprintable():
        return "has a line break or another unprintable character, or is not UTF-8"
    if wrong := {"/", "\\"} & {*name}:
        return f"may not contain {min(wrong)}"
    if name[:1] in NOT_FIRST:
        return f"may not begin with {name[0]}"
    if re.match("[A-Za-z]:", name):
        return "may not begin like a drive of Windows"
    if name == "*":
        return "may not be *, which stands for every type"
    if name != name.strip() or not name:
        return "may not begin or end with a space"
    if len(in_path(name).encode()) > LONGEST:
        return f'is longer than {LONGEST} bytes, where each of {{ }} , " $ ` < > | * ? [ ] % counts three'
    return None
