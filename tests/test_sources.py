"""Source hashes: explaining code keeps them, changing it changes those of the steps that it decides, and no others."""

import ast
import re
import shutil
from pathlib import Path

import pytest

import bgad
from bgad.config.provenance import STEPS, method_sha256, source_sha256

PACKAGE = Path(bgad.__file__).parent
# Wiring and doors: what they read, check and pass on reaches a step through its inputs and parameters.
OUTSIDE = {
    "__init__.py",
    "__main__.py",
    "attempts.py",
    "cells.py",
    "checkpoint.py",
    "devices.py",
    "download.py",
    "errors.py",
    "fetch.py",
    "files.py",
    "finished.py",
    "gpu_share.py",
    "locks.py",
    "memory.py",  # how many images at once, which changes nothing else
    "overlay.py",
    "names.py",
    "own_data.py",
    "paths.py",
    "plain_yaml.py",
    "predict.py",
    "presets.py",
    "progress.py",
    "settings.py",
    "sources.py",
    "tensors.py",  # what it refuses is made by nobody
    "unpack.py",
    "weights.py",  # whichever way they come, it is their hash that counts, and it is in what they made
}
OUTSIDE_FOLDERS = {"cli", "detectors", "export", "live", "look"}
REPORT_FIGURES = {
    "report/collect.py",
    "report/published.py",
    "report/stale.py",
    "report/summary.py",
    "report/table_format.py",
    "detectors/__init__.py",
}
# A step's inputs are files that other steps made, whose own hashes stand for this code.
INPUTS = {
    "mini": set(),
    "split": {"datasets.py", "mini.py"},
    "training": {"datasets.py", "mini.py", "splits.py", "features.py"},
    # Of the flow a hint names the type, nothing more.
    "detection": {"datasets.py", "mini.py", "splits.py", "features.py", "flow.py"},
    # Of a split it takes the hash, to see whether a cell is stale.
    "report": {"datasets.py", "mini.py", "splits.py"},
    # The page takes its style from the plots, none of whose figures it shows.
    "examples": {"datasets.py", "mini.py", "splits.py", *REPORT_FIGURES, "detectors/__init__.py"},
}


@pytest.fixture
def package(tmp_path) -> Path:
    """A copy of the package to edit."""
    copy = tmp_path / "bgad"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def hashes(package: Path) -> dict[str, str]:
    return {step: source_sha256(step, package) for step in STEPS}


def steps_that_change(package: Path, file: str, edit) -> set[str]:
    """The steps whose hash ``edit`` (text -> text) of ``file`` changes; the file is put back."""
    before, path = hashes(package), package / file
    text = path.read_text(encoding="utf-8")
    assert edit(text) != text
    path.write_text(edit(text), encoding="utf-8")
    after = hashes(package)
    path.write_text(text, encoding="utf-8")
    return {step for step in STEPS if after[step] != before[step]}


def test_every_pattern_names_a_file():
    for step, patterns in STEPS.items():
        for pattern in patterns:
            assert list(PACKAGE.glob(pattern)), f"{step}: {pattern}"


def test_every_module_is_in_a_step_or_known_to_be_outside():
    inside = {path for patterns in STEPS.values() for pattern in patterns for path in PACKAGE.glob(pattern)}
    everything = {path for path in PACKAGE.rglob("*.py") if path.parent.name not in OUTSIDE_FOLDERS}
    assert {path.relative_to(PACKAGE).as_posix() for path in everything - inside} == OUTSIDE


@pytest.mark.parametrize("step", INPUTS)
def test_a_step_has_all_that_its_modules_import(step):
    covered = {path.relative_to(PACKAGE).as_posix() for pattern in STEPS[step] for path in PACKAGE.glob(pattern)}
    to_do = {name for name in covered if name.endswith(".py")}
    seen = set()
    while to_do:
        name = to_do.pop()
        seen.add(name)
        to_do |= imports(PACKAGE / name) - seen - OUTSIDE - INPUTS[step]
    assert seen <= covered, "imported, but an edit would not make the step run again"


def imports(path: Path) -> set[str]:
    """The modules of the package that a module imports, as paths in the package."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "bgad":
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.split(".")[0] == "bgad"]
        else:
            continue
        stems = ["/".join(name.split(".")[1:]) for name in names]
        files = (stem + ending for stem in stems if stem for ending in (".py", "/__init__.py"))
        found |= {file for file in files if (PACKAGE / file).is_file()}
    return found


def test_where_the_package_lies_changes_nothing(package):
    assert hashes(package) == {step: source_sha256(step) for step in STEPS}


@pytest.mark.parametrize("file", ["losses.py", "splits.py", "report/table.py"])
def test_comments_docstrings_and_layout_keep_the_hash(package, file):
    def remarks(text):
        return "# A remark at the top.\n" + text + "\n# And one at the end.\n"

    def other_docstrings(text):
        return text.replace('"""', '"""In other words: ', 1) + '\n\nclass Unused:\n    """Explained."""\n'

    def without_docstrings(text):
        changed = re.sub(r'^    """[^"]*"""\n', "", text, count=1, flags=re.MULTILINE)
        ast.parse(changed)
        return changed

    def other_layout(text):
        return text.replace("\n\n\n", "\n\n\n\n").replace("(", "( ", 3)

    for edit in (remarks, without_docstrings, other_layout, lambda text: text.replace("\n", "\r\n")):
        assert steps_that_change(package, file, edit) == set(), edit
    # A new class is code, but how it is explained is not.
    path = package / file
    original = path.read_text(encoding="utf-8")
    path.write_text(original + "\n\nclass Unused:\n    pass\n", encoding="utf-8")
    plain = hashes(package)
    path.write_text(other_docstrings(original), encoding="utf-8")
    assert hashes(package) == plain


@pytest.mark.parametrize(
    ("file", "old", "new", "steps"),
    [
        ("losses.py", "normalizer: float = 10.0", "normalizer: float = 11.0", {"training"}),
        ("scoring.py", "import", "import ast\nimport", {"training", "detection"}),
        ("detect.py", "IMAGES_AT_ONCE = 32", "IMAGES_AT_ONCE = 31", {"detection"}),
        ("detectors/patchcore.py", "PROJECTED = 128", "PROJECTED = 127", set()),
        ("splits.py", "pool_size: int = 10", "pool_size: int = 9", {"split"}),
        ("datasets.py", "no images found", "no image found", {"index"}),
        (
            "images.py",
            "Resampling.LANCZOS",
            "Resampling.BICUBIC",
            {"index", "features", "synthetic", "training", "examples", "report"},
        ),
        ("report/table_format.py", "import", "import ast\nimport", {"report"}),
        ("examples.py", "PANEL = 200", "PANEL = 201", {"examples"}),
        ("report/published.py", "import", "import ast\nimport", {"report"}),
        ("published.csv", "99.3", "99.4", {"report"}),
        ("mini.py", "SIZE = 256", "SIZE = 255", {"mini"}),
        ("errors.py", "Exception", "ValueError", set()),
    ],
)
def test_an_edit_of_code_changes_the_steps_that_it_decides(package, file, old, new, steps):
    assert steps_that_change(package, file, lambda text: text.replace(old, new, 1)) == steps


def test_a_renamed_or_new_module_of_the_report_changes_its_hash(package):
    before = hashes(package)
    (package / "report" / "another.py").write_text("VALUE = 1\n")
    after = hashes(package)
    assert {step for step in STEPS if after[step] != before[step]} == {"report"}


def test_a_detector_decides_its_own_cells_and_no_others(package):
    def of_methods():
        return {method: method_sha256(method, package) for method in ("bgad", "bgad-wo", "nf", "patchcore", "padim")}

    before = of_methods()
    assert before["bgad"] == before["bgad-wo"] == before["nf"] == source_sha256("training", package)
    assert len(set(before.values())) == 3
    for file, methods in {
        "detectors/patchcore.py": {"patchcore"},
        "detect.py": {"patchcore", "padim"},
        "losses.py": {"bgad", "bgad-wo", "nf"},
        "metrics.py": set(before),
    }.items():
        path = package / file
        text = path.read_text(encoding="utf-8")
        path.write_text(text + "\nEDITED = True\n", encoding="utf-8")
        after = of_methods()
        assert {method for method in before if after[method] != before[method]} == methods
        path.write_text(text, encoding="utf-8")


def test_randomness_is_behind_every_step_that_draws(package):
    changed = steps_that_change(package, "randomness.py", lambda text: text + "\nEDITED = True\n")
    assert changed == {"mini", "split", "synthetic", "training", "detection", "examples"}
