"""The rooms of bgad/: imports go in one direction, each room using those above it alone."""

import ast
from pathlib import Path

import bgad

PACKAGE = Path(bgad.__file__).parent
# From the top; modules that lie in no room (errors, io, devices, randomness, ...) are above all of them.
ROOMS = ["config", "data", "features", "anomalies", "model", "training", "evaluation", "methods", "report", "cli"]


def room_of(module: str) -> int:
    """The place of a module's room, by its name below bgad; 0 for one that lies in none."""
    first = module.split(".")[0]
    return 1 + ROOMS.index(first) if first in ROOMS else 0


def imports(path: Path) -> set[str]:
    """What a file imports of this package, by names below bgad."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("bgad.") for name in names if name.startswith("bgad.")}


def test_every_folder_is_a_room():
    assert {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()} == set(ROOMS)


def test_a_room_uses_those_above_it_alone():
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        here = path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".")
        if here != "__main__":
            wrong += [f"{here} imports {there}" for there in sorted(imports(path)) if room_of(there) > room_of(here)]
    assert not wrong
