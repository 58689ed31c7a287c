"""Which methods there are: the paper's three, and a file of bgad/methods for each other one.

Files are looked at, never imported: planning a workflow asks for the names alone, and torch takes seconds.
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
    """All methods, the paper's first. Any other is named as its file: letters, digits, - and _, which does not come first."""
    return [*PAPER_METHODS, *other_names()]


def other_names() -> list[str]:
    files = {path.stem for path in FOLDER.glob("*.py") if re.fullmatch("[A-Za-z0-9][A-Za-z0-9_-]*", path.stem)}
    return sorted(files - NOT_METHODS)


def display_name(method: str) -> str:
    """A method's name in tables and plots: the NAME in its file, and of the paper's methods the name itself."""
    return _constant(method, "NAME", method)


def knows_anomalies(method: str) -> bool:
    """Whether the method can be given known anomalies (k > 0): the KNOWS_ANOMALIES in its file."""
    return method == "bgad" or bool(_constant(method, "KNOWS_ANOMALIES", False))


def _constant(method: str, constant: str, default: Any) -> Any:
    """The value of ``constant = <literal>`` in a method's file, read without running it; ``default`` where there is none."""
    path = FOLDER / f"{method}.py"
    if method in PAPER_METHODS or not path.is_file():
        return default
    try:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [constant]:
                return ast.literal_eval(node.value)
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f"bgad/methods/{method}.py: {constant} cannot be read ({error}); put the file right.") from error
    return default
