"""Updates the line numbers in docs/protocol.md after the code has moved: python workflow/scripts/paper_lines.py

A place is written [`bgad/training/losses.py:65`](../bgad/training/losses.py#L65) `explicit_boundary`; the name finds the line.
"""

import ast
import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "protocol.md"
PLACE = re.compile(r"\[`(?P<file>[\w/.]+):\d+`\]\(\.\./(?P=file)#L\d+\) `(?P<name>[\w.]+)`")


def with_lines(text: str, root: Path) -> str:
    """``text`` with every place's line as in the files under ``root``. KeyError if a file does not define the name."""

    def place(match: re.Match) -> str:
        file, name = match["file"], match["name"]
        line = _lines(root / file)[name]
        return f"[`{file}:{line}`](../{file}#L{line}) `{name}`"

    return PLACE.sub(place, text)


def _lines(path: Path) -> dict[str, int]:
    """The lines of functions, classes and methods (class.method) in a Python file, or of functions in a C file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        numbered = enumerate(text.splitlines(), start=1)
        return {found[1]: line for line, of in numbered if (found := re.match(r"(?:static )?\w+ (\w+)\(", of))}
    lines = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            lines[node.name] = node.lineno
            inside = node.body if isinstance(node, ast.ClassDef) else []
            lines |= {f"{node.name}.{of.name}": of.lineno for of in inside if isinstance(of, ast.FunctionDef)}
    return lines


if __name__ == "__main__":
    PAGE.write_text(with_lines(PAGE.read_text(encoding="utf-8"), PAGE.parents[1]), encoding="utf-8")
