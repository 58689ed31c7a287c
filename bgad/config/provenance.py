"""Hashes of this package's sources: a result records which code made it, and the workflow re-runs what an edit affects.

A step's hash covers every module that its entry imports, found from the import statements, and the data files next to those
modules. It hashes tokens: comments, docstrings, blank lines and the Python version change nothing. Snakemake's own code trigger
sees a rule's command line, not the modules behind it.
"""

import ast
import hashlib
import io
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from bgad.config.methods import PAPER_METHODS

PACKAGE = Path(__file__).parents[1]
# The modules that a step of the workflow calls.
ENTRIES = {
    "mini": ("bgad.data.mini",),
    "index": ("bgad.data.layouts",),
    "split": ("bgad.data.splits",),
    "features": ("bgad.features.cache",),
    "synthetic": ("bgad.anomalies.synthetic",),
    "report": ("bgad.report.tables.suite", "bgad.report.plots.suite", "bgad.report.page.page"),
    "examples": ("bgad.report.plots.examples",),
}
ENDS = {tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}  # of a statement, or before the first in a block
LAYOUT = {tokenize.COMMENT, tokenize.NL}


def source_sha256(step: str, package: Path = PACKAGE) -> str:
    """The hash of the sources of a step, one of ENTRIES."""
    return _sha256(ENTRIES[step], package)


def method_sha256(method: str, package: Path = PACKAGE) -> str:
    """The hash of the sources behind a cell of that method: the runner's and the method's."""
    name = "bgad" if method in PAPER_METHODS else method
    return _sha256(("bgad.methods.runner", f"bgad.methods.{name}"), package)


def files_of(entries: tuple[str, ...], package: Path = PACKAGE) -> set[Path]:
    """The files of the modules ``entries``, of everything they import from this package, and the data files next to those."""
    found: set[Path] = set()
    to_do = [path for entry in entries for path in _files(entry, package)]
    while to_do:
        path = to_do.pop()
        if path not in found:
            found.add(path)
            to_do += [file for module in _imports(_text(path)) for file in _files(module, package)]
    return found | {file for path in found for file in path.parent.iterdir() if file.is_file() and file.suffix != ".py"}


@cache
def _sha256(entries: tuple[str, ...], package: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(files_of(entries, package)):
        content = "\0".join(_tokens(_text(path))).encode() if path.suffix == ".py" else path.read_bytes()
        digest.update(f"{path.relative_to(package).as_posix()}\n".encode() + content + b"\n")
    return digest.hexdigest()


def _files(module: str, package: Path) -> list[Path]:
    """The file of a module, or of the module that defines a name (``bgad.io.whole``: bgad/io.py), and the packages above."""
    found, folder = [package / "__init__.py"], package
    for part in module.split(".")[1:]:
        if (folder / f"{part}.py").is_file():
            return [*found, folder / f"{part}.py"]
        if not (folder / part / "__init__.py").is_file():
            return found
        folder /= part
        found.append(folder / "__init__.py")
    return found


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def _imports(source: str) -> tuple[str, ...]:
    """The names of this package that a module imports, at any level of nesting."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return tuple(name for name in found if name.split(".")[0] == "bgad")


@cache
def _tokens(source: str) -> tuple[str, ...]:
    """The code of a module without comments, docstrings and layout."""
    tokens = [token for token in _whole_strings(source) if token[0] not in LAYOUT]
    kept: list[tuple[int, str]] = []
    for kind, text in tokens:
        if kind == tokenize.NEWLINE and kept and kept[-1][0] == tokenize.STRING and (len(kept) == 1 or kept[-2][0] in ENDS):
            kept.pop()  # a string that is a statement: a docstring
        else:
            kept.append((kind, text))
    # Indentation counts, but not its width.
    return tuple(text if text.strip() else tokenize.tok_name[kind] for kind, text in kept)


def _whole_strings(source: str) -> Iterator[tuple[int, str]]:
    """Kind and text of each token. From Python 3.12 on an f-string is many tokens; here it is one, as before."""
    lines = source.splitlines(keepends=True)
    depth, start = 0, (1, 0)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        name = tokenize.tok_name[token.type]
        if name == "FSTRING_START":
            start = start if depth else token.start
            depth += 1
        if not depth:
            yield token.type, token.string
        if name == "FSTRING_END":
            depth -= 1
            if not depth:
                yield tokenize.STRING, _between(lines, start, token.end)


def _between(lines: list[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    if start[0] == end[0]:
        return lines[start[0] - 1][start[1] : end[1]]
    return "".join([lines[start[0] - 1][start[1] :], *lines[start[0] : end[0] - 1], lines[end[0] - 1][: end[1]]])
