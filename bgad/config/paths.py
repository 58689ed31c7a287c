"""The one owner of paths: where every artefact is, relative to the project's root.

The patterns hold Snakemake's wildcards, so the rules and the Python code name the same files.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from bgad.config.names import in_path
from bgad.errors import ConfigError, FileError


class Pattern(str):
    """A path with wildcards, which ``format`` replaces by names as paths have them (names.py)."""

    def format(self, *_: object, **names: object) -> str:
        return super().format(**{key: in_path(str(name)) for key, name in names.items()})


CELL = Pattern("results/{recipe}/{dataset}/{category}/{split}/k{k}/{method}/seed{seed}")
METRICS = Pattern(CELL + "/metrics.json")
GALLERY = ("images.jpg", "masks.png", "maps.png", "gallery.json")  # in a cell's folder gallery
# What a cell leaves in its folder, as the outputs of rule train; metrics.json, which is written last, comes first.
CELL_FILES = (
    *("metrics.json", "history.csv", "scores.csv", "curves.npz", "model.pt", "likelihoods.json"),
    *(f"gallery/{name}" for name in GALLERY),
)

SCORED = "scored.pt"  # of cells with k 0 on seen, for those on hard-<type>: bgad/evaluation/scored.py

DATASET = "resources/datasets/{dataset}"
ARCHIVES = "resources/archives/{dataset}"
INDEX = Pattern("resources/index/{dataset}/{category}.json")
CONTENT = Pattern("resources/content/{dataset}/{category}.json")  # where a user's copy is, and the hashes of its files
# {draws}: own, or in-a-row as in the released code
SPLIT = Pattern("resources/splits/{draws}/{dataset}/{category}/{split}/seed{seed}.json")
FEATURES = Pattern("resources/features/{backbone}/{image_size}/{dataset}/{category}")
# {kind}: cutpaste or pseudo
SYNTHETIC = Pattern("resources/{kind}/{draws}/{backbone}/{image_size}/{dataset}/{category}/{split}/seed{seed}/{known}x{each}")

RECIPE = "config/recipes/{recipe}.yaml"
SUITE = "config/suites/{suite}.yaml"
REPORT = "reports/{suite}"
MEASURED = "reports/measured/{suite}.csv"  # what was measured, kept in git; where from is next to it as .json
# A report's plots in order, each <name>.svg and <name>.png, with their captions.
PLOTS = {
    "methods": "The methods next to each other",
    "auroc-by-k": "Metrics against the number of known anomalies",
    "known-unseen": "Known and unseen defect types, with and without known anomalies",
    "by-category": "Categories: every seed, and the mean over seeds",
    "curves": "ROC and precision-recall curves of the images",
    "training-curves": "Training curves: metrics against the meta epoch",
    "best-epoch": "What choosing the epoch adds: best minus last",
}
EXAMPLES = "cutpaste.png"  # in the same folder


def recipe_file(recipe: str) -> Path:
    return Path(RECIPE.format(recipe=recipe))


def suite_file(suite: str) -> Path:
    return Path(SUITE.format(suite=suite))


def leads_out(path: str) -> bool:
    """Whether a path or a link's target is absolute, goes up, or is invalid.

    If none in a folder is, no chain of links can leave the folder either.
    """
    parts = re.split(r"[/\\]", path)
    return not parts[0] or bool(re.match("[A-Za-z]:", path)) or ".." in parts or "\0" in path


def check_inside(names: Iterable[str], source: Path) -> None:
    """FileError for the first of ``names``, read from ``source``, that leads out of its folder."""
    outside = next(filter(leads_out, names), None)
    if outside is not None:  # it may be empty
        raise FileError(f"{source}: names {outside!r}, which is outside its folder; delete it and run again.")


def project_root() -> Path:
    """The folder with the workflow and its configuration: the current one, else the checkout of this package."""
    for folder in (Path.cwd(), Path(__file__).resolve().parents[2]):
        if (folder / "Snakefile").is_file() and (folder / "config/config.yaml").is_file():
            return folder
    raise ConfigError(f"{Path.cwd()}: there is no Snakefile with config/config.yaml here; change to the project's folder.")
