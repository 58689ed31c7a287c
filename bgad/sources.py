"""Hashes of this package's own sources, so that the workflow re-runs what an edit changed, and nothing else.

Snakemake's own code trigger sees a rule's command line, not the modules behind it. A hash is taken over the code without
comments and docstrings: explaining a loss better retrains nothing, changing it retrains everything.
"""

import ast
import hashlib
from pathlib import Path

# What decides the numbers of a step, given the files that it reads.
MINI = ("mini", "randomness")
INDEX = ("datasets",)
SPLIT = ("splits", "randomness")
FEATURES = ("features", "backbones")
CUTPASTE = ("anomalies", "augment", "cutpaste", *FEATURES, "randomness")
TRAINING = (
    "anomalies",
    "augment",
    "cutpaste",
    "evaluate",
    "flow",
    "losses",
    "metrics",
    "position",
    "randomness",
    "results",
    "sampling",
    "scoring",
    "train",
)
REPORT = ("collect", "plots", "published", "table", "table_sections")

STEPS = {
    "mini": MINI,
    "index": INDEX,
    "split": SPLIT,
    "features": FEATURES,
    "cutpaste": CUTPASTE,
    "training": TRAINING,
    "report": REPORT,
}


def source_sha256(step: str, package: Path | None = None) -> str:
    """The hash of the modules of a step: mini, index, split, features, cutpaste, training or report."""
    package = package or Path(__file__).parent
    digest = hashlib.sha256()
    for module in STEPS[step]:
        digest.update(f"{module}\n{_code(package / f'{module}.py')}\n".encode())
    return digest.hexdigest()


def _code(path: Path) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            node.body = body[1:] or [ast.Pass()]
    return ast.unparse(tree)
