"""All settings as typed objects, validated once when they are read: recipes, suites and the configuration.

The files are config/config.yaml, config/recipes/<recipe>.yaml and config/suites/<suite>.yaml; config/README.md lists every
key. A wrong key or value is an error that names the file and the key.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic_core import ErrorDetails

from bgad.config import methods
from bgad.config.names import MOST_SEED
from bgad.config.plain_yaml import read_yaml
from bgad.errors import ConfigError


def _is_a_method(name: str) -> str:
    *first, last = (repr(method) for method in methods.names())
    if repr(name) not in (*first, last):
        raise ValueError(f"Input should be {', '.join(first)} or {last}")
    return name


NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
Name = Annotated[str, StringConstraints(pattern=NAME, max_length=150)]
Method = Annotated[Name, AfterValidator(_is_a_method)]
Share = Annotated[float, Field(gt=0, le=1)]
Steps = Annotated[int, Field(ge=1, le=1_000_000)]
Noise = Annotated[float, Field(ge=0, le=10)]
T = TypeVar("T", bound=BaseModel)
MANY = 1_000_000  # no sensible count is higher
MARGIN = 0.3  # percentage points; config/config.yaml has the reason


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Flow(Settings):
    """The conditional flow of each level."""

    blocks: int = Field(ge=1, le=100, description="coupling blocks of a flow")
    position_channels: int = Field(ge=4, le=4096, multiple_of=4, description="channels of the position code")
    clamp: float = Field(gt=0, description="bound of the log-scale of a coupling, before exponentiation")


class Loss(Settings):
    """The losses: boundary, semi-push-pull and focal weights."""

    normalizer: float = Field(gt=0, description="L = l / normalizer, the scale of the boundary")
    beta: float = Field(ge=0, lt=1, description="share of the normal vectors below the normal boundary b_n")
    tau: float = Field(ge=0, description="margin between the boundaries: b_a = b_n - tau")
    push_pull_weight: float = Field(ge=0, description="lambda: weight of pull + push next to the maximum likelihood")
    focal: bool = Field(description="weight each vector by how poorly it fits")


class Schedule(Settings):
    """How long, and at which learning rate."""

    meta_epochs: int = Field(
        ge=1, le=MANY, description="meta epochs; each can be evaluated, and the first is maximum likelihood"
    )
    sub_epochs: int = Field(ge=1, le=MANY, description="passes over the data in each meta epoch")
    learning_rate: float = Field(gt=0, description="Adam's learning rate, before cosine and warm-up")
    gradient_norm: float | None = Field(
        default=None, gt=0, description="gradients whose norm is larger are scaled down to it, level by level"
    )
    final_rate: float = Field(ge=0, le=1, description="where the cosine ends, as a share of learning_rate")
    warm_up_epochs: int = Field(ge=0, le=MANY, description="meta epochs of linear warm-up, to the cosine's value at their end")
    warm_up_from: float = Field(gt=0, le=1, description="where the warm-up starts, as a share of learning_rate")
    cosine: Literal["per_epoch", "per_step"] = Field(description="whether the cosine falls per meta epoch or per step")
    evaluate_every: int = Field(ge=1, le=MANY, description="meta epochs between evaluations; the last one is always evaluated")


class ImageBatches(Settings):
    """Steps as in the released code: batches of images whose vectors are shuffled and cut into mini-batches."""

    kind: Literal["image_batches"]
    images: int = Field(ge=1, le=MANY, description="images in a batch; an incomplete last batch is dropped")
    vectors: int = Field(ge=2, le=MANY, description="vectors in a step; the rest of a batch is dropped")


class VectorDraws(Settings):
    """Steps drawn from the cached vectors of all images: fewer vectors a step, better mixed."""

    kind: Literal["vector_draws"]
    vectors: int = Field(ge=2, le=MANY, description="vectors in a step")
    level_steps: tuple[Steps, Steps, Steps] | None = Field(
        default=None, description="steps of each level in a pass, whatever the number of images"
    )
    level_shares: tuple[Share, Share, Share] | None = Field(
        default=None, description="instead: share of each level's vectors that a pass draws"
    )
    level_noise: tuple[Noise, Noise, Noise] = Field(
        default=(0, 0, 0),
        description="Gaussian noise on each level's vectors, in standard deviations of a channel over the normal images",
    )
    anomaly_share: float = Field(gt=0, lt=1, description="share of a step's vectors that come from the known anomalies")
    defect_share: float = Field(ge=0, le=1, description="share of those that are on the defects")

    @model_validator(mode="after")
    def _has_steps_or_shares(self):
        if (self.level_steps is None) == (self.level_shares is None):
            raise ValueError("state level_steps or level_shares, one of the two")
        return self


STRATEGIES = {
    "repeat": (),
    "repeat+cutpaste": ("cutpaste",),
    "repeat+pseudo": ("pseudo",),
    "all": ("cutpaste", "pseudo"),
}


class Anomalies(Settings):
    """How the k known anomalies become training data."""

    strategy: Literal["repeat", "repeat+cutpaste", "repeat+pseudo", "all"] = Field(
        description="the real images only, or also CutPaste images, pseudo anomalies, or both"
    )
    repeat: int = Field(
        ge=1,
        le=MANY,
        description="entries of each known anomaly in a pass: real images, and as many synthetic ones of each kind",
    )
    synthetic: Literal["every_pass", "pool"] = Field(
        description="whether synthetic images are made for every pass or drawn from a pool"
    )
    pool: int = Field(
        default=0, ge=0, le=MANY, description="images of each known anomaly in the pool of a kind (synthetic: pool)"
    )

    @model_validator(mode="after")
    def _pool_has_a_size(self):
        if (self.synthetic == "pool") != (self.pool > 0):
            raise ValueError("pool must be at least 1 with synthetic: pool, and 0 otherwise")
        return self

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of synthetic images of the strategy: cutpaste, pseudo, both or none."""
        return STRATEGIES[self.strategy]


class Quirks(Settings):
    """Where the released code deviates from its evident intent; true reproduces the released code."""

    warm_up_counts_loaders: bool = Field(description="the warm-up divides by the number of loaders (2), not of batches")
    idle_levels_keep_momentum: bool = Field(description="Adam also moves the levels that a step has no gradient for")
    draws_follow_one_another: bool = Field(
        description="a category's known anomalies depend on the draws for the categories before it"
    )
    test_command_keeps_known: bool = Field(
        description="the final test keeps the known anomalies in the test set; reported separately"
    )


class Recipe(Settings):
    """How a cell is trained."""

    backbone: Name = Field(description="timm model with its weights' tag")
    image_size: int = Field(
        ge=32, le=4096, multiple_of=32, description="side of the square that images and masks are resized to, in pixels"
    )
    flow: Flow
    loss: Loss
    schedule: Schedule
    sampling: ImageBatches | VectorDraws = Field(discriminator="kind")
    anomalies: Anomalies
    quirks: Quirks

    @model_validator(mode="after")
    def _every_level_gets_steps(self):
        if isinstance(self.sampling, ImageBatches):
            coarsest = self.sampling.images * (self.image_size // 16) ** 2
            if coarsest < self.sampling.vectors:
                raise ValueError(
                    f"sampling.vectors: a batch has {coarsest} vectors at the coarsest level, fewer than the "
                    f"{self.sampling.vectors} of a step, so that level would never be trained"
                )
        return self

    @property
    def sha256(self) -> str:
        """A hash of the values; the file's comments and order change nothing."""
        return hashlib.sha256(json.dumps(self.model_dump(), sort_keys=True).encode()).hexdigest()


class Block(Settings):
    """One block of a suite's grid: the cells of every combination."""

    recipe: Name
    dataset: Name
    categories: Literal["all"] | list[str] = Field(default="all", description="categories, or all of them")
    splits: list[str] = Field(min_length=1, description="seen, hard-<type>, or hard-* for each type in turn")
    k: list[Annotated[int, Field(ge=0, le=MANY)]] = Field(min_length=1, description="counts of known anomalies")
    methods: list[Method] = Field(min_length=1, description="bgad, bgad-wo, nf, or another method: a file of bgad/methods")
    seeds: list[Annotated[int, Field(ge=0, le=MOST_SEED)]] = Field(min_length=1)

    @model_validator(mode="after")
    def _method_fits_k(self):
        for method in self.methods:
            if method == "bgad" and 0 in self.k:
                raise ValueError("method bgad learns from known anomalies, so its k is at least 1; use bgad-wo for k 0")
            if not methods.knows_anomalies(method) and self.k != [0]:
                raise ValueError(f"method {method} takes no known anomalies, so its k is [0]")
        return self


class Suite(Settings):
    """A set of cells and the question they answer: one report."""

    title: str
    question: str
    grid: list[Block] = Field(min_length=1)


class Dataset(Settings):
    """Where a data set is and how its folders are laid out."""

    layout: Literal["mvtec", "btad"] = Field(default="mvtec", description="folder layout: MVTec AD's or BTAD's")
    path: Path | None = Field(default=None, description="an existing copy; without it, the data set is downloaded")
    textures: list[str] = Field(default=[], description="categories whose foreground is the complete image")
    pool: int = Field(default=10, ge=0, le=MANY, description="anomalies that can be known; they leave the test set for every k")
    hold_out: float = Field(default=0, ge=0, lt=1, description="share of the normal training images to test on instead")
    strict: bool = Field(default=False, description="whether a missing or empty mask is an error")
    bit_depth: Literal[10, 12, 14, 16] | None = Field(
        default=None, description="bits of the values in 16-bit images: 2**bit_depth - 1 becomes white; without it, 65535 does"
    )


class Config(Settings):
    """config/config.yaml."""

    datasets: dict[Name, Dataset] = Field(min_length=1)
    suites: list[Name] = Field(description="the suites, each a file in config/suites")
    weights: dict[Name, Path] = Field(default={}, description="local weight files of backbones, by timm name")
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:<n>")
    threads: int = Field(default=1, ge=1, le=MANY, description="CPU threads of a training")
    gpu_mb: int = Field(default=4000, ge=1, le=10 * MANY, description="GPU memory that a training may need, in MB")
    workers: int = Field(default=0, ge=0, le=MANY, description="processes that make synthetic images while a GPU trains")
    checkpoint_every: int = Field(default=60, ge=0, le=MANY, description="seconds of training between a cell's checkpoints")
    margin: float = Field(default=MARGIN, gt=0, le=100, description="of verdicts on published numbers, in percentage points")


class _Based(Settings):
    base: Name


def load_recipe(path: Path) -> Recipe:
    """The recipe in ``path``. With the key ``base``, a recipe names another one next to it and states only what differs."""
    values = read_yaml(path)
    if isinstance(values, dict) and "base" in values:
        base = validated(_Based, {"base": values["base"]}, path).base
        changes, base_file = values, Path(path).with_name(f"{base}{Path(path).suffix}")
        values = read_yaml(base_file)
        if isinstance(values, dict) and "base" in values:
            raise ConfigError(
                f"{path}: its base {base_file.name} has a base itself; name {values['base']} instead, or state all values."
            )
        values = _changed(values, {key: value for key, value in changes.items() if key != "base"})
    return validated(Recipe, values, path)


def load_suite(path: Path) -> Suite:
    return validated(Suite, read_yaml(path), path)


def validated(model: type[T], values: Any, source: Path | str) -> T:
    """``values`` as a ``model``; ConfigError that names the first wrong key of ``source``."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        keys, first = _first_wrong(values, error)
        key = ".".join(keys)
        if first["type"] == "extra_forbidden":
            raise ConfigError(f"{source}: unknown key {key}; config/README.md lists the keys.") from error
        if first["type"] == "missing":
            raise ConfigError(f"{source}: key {key} is missing; config/README.md lists the keys.") from error
        where = f"{source}: {key}" if key else source
        raise ConfigError(f"{where}: {first['msg'].removeprefix('Value error, ')}.") from error


def _changed(values: Any, changes: Any) -> Any:
    """``values`` overridden by ``changes``, section by section."""
    if not (isinstance(values, dict) and isinstance(changes, dict)):
        return changes
    return {**values, **{key: _changed(values.get(key), change) for key, change in changes.items()}}


def _first_wrong(values: Any, error: ValidationError) -> tuple[list[str], ErrorDetails]:
    """The first error and its keys as in the file; if several types are allowed, the error of the one that fits furthest."""
    wrong = [(_keys(values, details), details) for details in error.errors()]
    first = wrong[0][0]
    return max((of for of in wrong if of[0][: len(first)] == first), key=lambda of: len(of[0]))


def _keys(values: Any, details: ErrorDetails) -> list[str]:
    """The keys that lead to an error, without the type names that pydantic puts among them."""
    keys = []
    for part in details["loc"]:
        inside = isinstance(values, dict) and part in values
        if inside or (isinstance(values, list) and isinstance(part, int)):
            values = values[part]
            keys.append(str(part))
    missing = details["loc"][-1:] if details["type"] == "missing" else ()
    return keys + [str(part) for part in missing]
