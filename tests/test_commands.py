"""Every command has a valid example in its help, and a shell completes names."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from conftest import ROOT

from bgad.cli.app import app


def commands(group, path=()) -> dict[str, object]:
    """Every command by its words: {"export model": ...}."""
    found = {}
    for name, command in group.commands.items():
        inside = commands(command, (*path, name)) if hasattr(command, "commands") else {" ".join((*path, name)): command}
        found |= inside
    return found


COMMANDS = commands(typer.main.get_command(app))


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_in_the_help_of_a_command_is_valid(name):
    command = COMMANDS[name]
    paragraphs = [" ".join(paragraph.split()) for paragraph in command.help.split("\n\n")]
    assert paragraphs[-1].startswith(f"Example: bgad {name} ")
    words = shlex.split(paragraphs[-1].removeprefix(f"Example: bgad {name} "))
    with command.make_context(name, words) as context:  # parses the words and runs nothing
        assert all(context.params[parameter.name] is not None for parameter in command.params if parameter.required)


def test_the_commands_are_registered():
    assert {"predict", "train", "cell", "table"} <= COMMANDS.keys()


def completed(typed: str, folder: Path) -> list[str]:
    """What bash offers for the last word of ``typed``."""
    words = typed.split(" ")
    asked = {"_BGAD_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1)}
    bgad = Path(sys.executable).with_name("bgad")
    run = subprocess.run([bgad], cwd=folder, env={**os.environ, **asked}, capture_output=True, text=True, check=True)
    return run.stdout.split()


@pytest.mark.parametrize(("typed", "folder"), [("bgad cells ", "suites"), ("bgad train --recipe ", "recipes")])
def test_a_shell_completes_names(typed, folder):
    assert completed(typed, ROOT) == sorted(path.stem for path in (ROOT / "config" / folder).glob("*.yaml"))


def test_a_shell_completes_the_beginning_of_a_name():
    assert completed("bgad table de", ROOT) == ["demo"]


def test_a_shell_completes_finished_cells(tmp_path):
    cells = [f"results/demo/mini/brick/seen/k{k}/{method}/seed0" for k, method in ((0, "nf"), (10, "bgad"))]
    for cell in cells:
        (tmp_path / cell).mkdir(parents=True)
        (tmp_path / cell / "model.pt").touch()
    (tmp_path / cells[0].replace("brick", "grass")).mkdir(parents=True)  # not finished
    assert completed("bgad predict part.png --cell results/demo/mini/brick", tmp_path) == cells


def test_completion_and_help_import_no_heavy_module():
    code = "import sys; import bgad.cli; print({'torch', 'timm', 'pandas', 'matplotlib'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
