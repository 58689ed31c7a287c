"""Hashes of this package's own sources, so that the workflow re-runs what an edit changed, and nothing else.

Snakemake's own code trigger sees a rule's command line, not the modules behind it. A hash is taken over the code without
comments and docstrings: explaining a loss better retrains nothing, changing it retrains everything.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

from bgad.settings import METHODS

PACKAGE = Path(__file__).parent
# The files that decide what a step makes, given its inputs. A cell of the paper's methods is the step training, one of a
# detector is detection with the detector's own file (method_sha256).
STEPS = {
    "mini": ("mini.py", "randomness.py"),
    "index": ("datasets.py", "images.py", "presets.yaml"),
    "split": ("splits.py", "released_draws.py", "randomness.py"),
    "features": ("features.py", "backbones.py", "images.py"),
    "synthetic": (
        "features.py",
        "backbones.py",
        "images.py",
        "anomalies.py",
        "cutpaste.py",
        "augment.py",
        "pseudo.py",
        "randomness.py",
    ),
    "training": (
        "results.py",
        "train.py",
        "graphed.py",
        "adam.py",
        "sampling.py",
        "flow.py",
        "coupling.*",
        "products.h",
        "compiled.py",
        "position.py",
        "losses.py",
        "anomalies.py",
        "cutpaste.py",
        "augment.py",
        "pseudo.py",
        "backbones.py",
        "images.py",
        "evaluate.py",
        "scoring.py",
        "gallery.py",
        "likelihoods.py",
        "metrics.py",
        "noticed.py",
        "records.py",
        "randomness.py",
    ),
    "detection": (
        "detect.py",
        "detectors/__init__.py",
        "noticed.py",
        "records.py",
        "evaluate.py",
        "scoring.py",
        "gallery.py",
        "metrics.py",
        "randomness.py",
    ),
    "report": (
        "report/*.py",
        "report/page/*",
        "detectors/__init__.py",
        "gallery.py",
        "images.py",
        "published.csv",
        "presets.yaml",
    ),
    "examples": (
        "examples.py",
        "cutpaste.py",
        "augment.py",
        "images.py",
        "randomness.py",
        "presets.yaml",
        "report/plot_style.py",
    ),
}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)  # what can have a docstring


def source_sha256(step: str, package: Path | None = None) -> str:
    """The hash of the sources of a step, one of STEPS."""
    return _sha256(STEPS[step], package or PACKAGE)


def method_sha256(method: str, package: Path | None = None) -> str:
    """The hash of the sources of a cell of that method: an edit of a detector makes its own cells anew, no others."""
    if method in METHODS:
        return source_sha256("training", package)
    return _sha256((*STEPS["detection"], f"detectors/{method}.py"), package or PACKAGE)


def _sha256(patterns: tuple[str, ...], package: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for pattern in patterns for path in package.glob(pattern)):
        text = path.read_text(encoding="utf-8")
        digest.update(f"{path.relative_to(package).as_posix()}\n{_code(text) if path.suffix == '.py' else text}\n".encode())
    return digest.hexdigest()


@cache  # a file belongs to several steps
def _code(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)
