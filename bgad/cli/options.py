"""Options that commands share, with their shell completion, and the suites and data sets that they name."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from bgad.config import paths
from bgad.errors import ConfigError


def suite_names() -> list[str]:
    return sorted(path.stem for path in Path("config/suites").glob("*.yaml"))


def recipe_names() -> list[str]:
    return sorted(path.stem for path in Path("config/recipes").glob("*.yaml"))


def finished_cells() -> list[str]:
    """The cells that have a model; if none matches, the shell completes folders."""
    return sorted(path.parent.as_posix() for path in Path().glob(re.sub(r"{\w+}", "*", paths.CELL) + "/model.pt"))


DataName = Annotated[str, Option("--dataset", help="Name of the data set, as in config/config.yaml.")]
Category = Annotated[str, Option(help="Category: a folder of the data set.")]
Root = Annotated[Path, Option(help="Folder of the data set, above its categories.")]
Output = Annotated[Path, Option(help="File to write.")]
IndexFile = Annotated[Path, Option("--index", help="Index of the category, from `bgad index`.")]
SplitFile = Annotated[Path, Option("--split", help="Split, from `bgad split`.")]
BackboneName = Annotated[str, Option("--backbone", help="timm name, with the tag of its weights.")]
ImageSize = Annotated[int, Option(min=32, help="Images are resized to squares of this side, in pixels.")]
CacheFolder = Annotated[Path, Option("--output", help="Folder of the cache.")]
Device = Annotated[str, Option(help="auto, cpu, cuda or cuda:<n>.")]
Threads = Annotated[int | None, Option(min=1, help="CPU threads; by default PyTorch's choice.")]
Weights = Annotated[Path | None, Option(help="Local weight file of the backbone, instead of a cache or a download.")]
SuiteName = Annotated[str, Argument(help="Name of a suite, as in config/suites.", autocompletion=suite_names)]
RecipeName = Annotated[str, Option("--recipe", help="Name of a recipe, as in config/recipes.", autocompletion=recipe_names)]
FinishedCell = Annotated[Path, Option("--cell", help="Folder of a finished cell.", autocompletion=finished_cells)]
AsJson = Annotated[bool, Option("--json", help="Print one JSON document and nothing else, for scripts.")]
Margin = Annotated[float | None, Option(help="Margin of the verdicts in points; by default that of config/config.yaml.")]
Datasets = Annotated[str | None, Option(help="Data sets as JSON; by default those of config/config.yaml.")]


def suite_cells(name: str, datasets: str | None):
    """The suite, its cells, and what its hard splits leave out. ConfigError if the suite or a data set does not exist."""
    from bgad.config.cells import expand, left_out
    from bgad.config.settings import load_suite
    from bgad.data.layouts import catalogue

    check_in_project()
    suite = load_suite(paths.suite_file(name))
    folders = cache(lambda dataset: catalogue(dataset, data_set(datasets, dataset)))
    return suite, expand(suite, folders), left_out(suite, folders)


def check_in_project() -> None:
    """ConfigError if the current folder is not a project's: paths of configuration and results are relative to it."""
    if not Path("config").is_dir():
        raise ConfigError(f"{Path.cwd()}: without config/, so not a project; start the command in {paths.project_root()}.")


def data_set(given: str | None, name: str, project: Path = Path()):
    """The settings of data set ``name``: from the JSON that the workflow passes, else from the project's config/config.yaml."""
    known = data_sets(given, project)
    if name not in known:
        raise ConfigError(f"config: there is no data set {name}; add it to datasets, or use one of {', '.join(known)}.")
    return known[name]


def data_root(given: str | None, name: str, project: Path = Path()) -> Path:
    """The folder of data set ``name``: your copy, if its settings have a path, else where the workflow puts it."""
    return project / (data_set(given, name, project).path or paths.DATASET.format(dataset=name))


def data_sets(given: str | None, project: Path = Path()):
    from bgad.config.settings import Config, validated

    if given is None:
        return configuration(project).datasets
    try:
        values = json.loads(given)
    except json.JSONDecodeError as error:
        raise ConfigError(f"--datasets: not valid JSON ({error}); quote it for the shell.") from error
    return validated(Config, {"datasets": values, "suites": []}, "--datasets").datasets


def configuration(project: Path = Path()):
    from bgad.config.settings import Config, read_yaml, validated

    if project == Path():
        check_in_project()
    return validated(Config, read_yaml(project / "config/config.yaml"), project / "config/config.yaml")
