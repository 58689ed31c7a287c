"""The names of the methods: the paper's three, and the name of every other file in bgad/methods.

Files are parsed, never imported: planning a workflow needs only the names, and importing torch takes seconds.
"""

import ast
import re
from pathlib import Path
from typing import Any

from bgad.errors import ConfigError

PAPER_METHODS = ("bgad", "bgad-wo", "nf")  # bgad/methods/bgad.py
FOLDER = Path(__file__).parents[1] / "methods"
NOT_METHODS = {"bgad", "runner", "predict"}  # files of that folder; the first holds the paper's three


def names() -> list[str]:
    """All methods, the paper's first. The others have their file's name: letters, digits, - and _, starting with neither."""
    return [*PAPER_METHODS, *other_names()]


def other_names() -> list[str]:
    files = {path.stem for path in FOLDER.glob("*.py") if re.fullmatch("[A-Za-z0-9][A-Za-z0-9_-]*", path.stem)}
    return sorted(files - NOT_METHODS)


def display_name(method: str) -> str:
    """A method's name in tables and plots: NAME in its file, else the method's own name."""
    return _constant(method, "NAME", method)


def knows_anomalies(method: str) -> bool:
    """Whether the method accepts known anomalies (k > 0): KNOWS_ANOMALIES in its file."""
    return method == "bgad" or bool(_constant(method, "KNOWS_ANOMALIES", False))


def _constant(method: str, constant: str, default: Any) -> Any:
    """The value of ``constant = <literal>`` in a method's file, read without running it; ``default`` if there is none."""
    path = FOLDER / f"{method}.py"
    if method in PAPER_METHODS or not path.is_file():
        return default
    try:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [constant]:
                return ast.literal_eval(node.value)
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f"bgad/methods/{method}.py: {constant} cannot be read ({error}); correct the file.") from error
    return default
