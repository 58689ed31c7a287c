"""Source hashes: explaining code keeps them, changing it changes those of the steps that import it."""

import ast
import re
import shutil
from pathlib import Path

import pytest

import bgad
from bgad.config import provenance
from bgad.config.provenance import ENTRIES, files_of, method_sha256, source_sha256

PACKAGE = Path(bgad.__file__).parent
METHODS = ("bgad", "bgad-wo", "nf", "patchcore", "padim")


@pytest.fixture
def package(tmp_path) -> Path:
    """A copy of the package to edit."""
    copy = tmp_path / "bgad"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def hashes(package: Path) -> dict[str, str]:
    """Of every step and method, read from the files as they are now."""
    provenance._sha256.cache_clear()
    of_steps = {step: source_sha256(step, package) for step in ENTRIES}
    return of_steps | {method: method_sha256(method, package) for method in METHODS}


def changed_by(package: Path, file: str, edit) -> set[str]:
    """The steps and methods whose hash ``edit`` (text -> text) of ``file`` changes; the file is put back."""
    before, path = hashes(package), package / file
    text = path.read_text(encoding="utf-8")
    assert edit(text) != text
    path.write_text(edit(text), encoding="utf-8")
    after = hashes(package)
    path.write_text(text, encoding="utf-8")
    return {name for name in before if after[name] != before[name]}


def test_where_the_package_lies_changes_nothing(package):
    assert hashes(package) == hashes(PACKAGE)


@pytest.mark.parametrize("file", ["training/losses.py", "data/splits.py", "report/tables/suite.py"])
def test_comments_docstrings_and_layout_keep_the_hash(package, file):
    def remarks(text):
        return "# A remark at the top.\n" + text + "\n# And one at the end.\n"

    def without_docstrings(text):
        changed = re.sub(r'^    """[^"]*"""\n', "", text, count=1, flags=re.MULTILINE)
        ast.parse(changed)
        return changed

    def reworded(text):
        return text.replace('"""', '"""In other words: ', 1)

    def spaced(text):
        return text.replace("\n\n\n", "\n\n\n\n").replace("(", "( ", 3)

    for edit in (remarks, without_docstrings, reworded, spaced, lambda text: text.replace("\n", "\r\n")):
        assert changed_by(package, file, edit) == set(), edit


CELLS = set(METHODS)


@pytest.mark.parametrize(
    ("file", "old", "new", "some", "none"),
    [
        (
            "training/losses.py",
            "normalizer: float = 10.0",
            "normalizer: float = 11.0",
            {"bgad", "bgad-wo", "nf"},
            {"split", "features"},
        ),
        ("methods/patchcore.py", "PROJECTED = 128", "PROJECTED = 127", {"patchcore"}, {"bgad", "padim", "report"}),
        ("methods/bgad.py", "import", "import ast\nimport", {"bgad", "bgad-wo", "nf"}, {"patchcore", "padim"}),
        ("model/cpu/{c}", "\n", "\n\n", {"bgad"}, {"split", "features", "report"}),
        ("evaluation/metrics.py", "import", "import ast\nimport", CELLS, {"split", "features", "mini"}),
        # What leaks known anomalies, turns TF32 on or changes a strategy makes cells stale.
        ("data/splits.py", "def test(", "def test(self, *_): return ()\n    def _test(", CELLS | {"split"}, {"mini"}),
        ("devices.py", "allow_tf32 = False", "allow_tf32 = True", CELLS, {"mini", "split"}),
        ("config/settings.py", '"repeat": ()', '"repeat": ("cutpaste",)', CELLS, {"mini"}),
        ("randomness.py", "digest[:8]", "digest[8:16]", CELLS | {"mini", "split", "synthetic", "examples"}, set()),
        ("report/published.csv", "99.3", "99.4", {"report"}, CELLS | {"features"}),
        ("report/page/page.css", "\n", "\n\n", {"report"}, CELLS),
        ("data/mini.py", "SIZE = 256", "SIZE = 255", {"mini"}, set()),
        ("cli/steps.py", "import", "import ast\nimport", set(), CELLS | set(ENTRIES)),
    ],
)
def test_an_edit_of_code_changes_what_imports_it(package, file, old, new, some, none):
    file = file.format(c=next(path.name for path in (package / "model/cpu").glob("*.c")))
    changed = changed_by(package, file, lambda text: text.replace(old, new, 1))
    assert some <= changed and not none & changed


def test_an_import_brings_in_a_module_wherever_it_is(package):
    assert package / "report/published.csv" not in files_of(("bgad.data.mini",), package)
    (package / "data/mini.py").write_text("def generate():\n    from bgad.report import published\n")
    assert {package / "report/published.csv", package / "data/download/presets.py"} <= files_of(("bgad.data.mini",), package)


def test_an_f_string_is_one_token():
    """As before Python 3.12, so that a hash is the same under all versions."""
    source = 'x = f"{a!r:>{width}} and {f(\'b\')}" + "c"\n'
    assert provenance._tokens(source)[:5] == ("x", "=", "f\"{a!r:>{width}} and {f('b')}\"", "+", '"c"')
