"""Training a cell: BGAD's two phases over cached features, top to bottom.

Meta epoch 0 fits the flows to normal vectors by maximum likelihood. From meta epoch 1 on, each step finds the explicit
boundary of its normal vectors and adds the boundary guided semi-push-pull loss, with the known anomalies in the data
(method ``bgad``), or the pull alone on normal vectors (``bgad-wo``, the paper's "without anomalies" row). ``nf`` goes on
with maximum likelihood: the plain conditional flow. On a GPU each kind of step is recorded once and replayed (graphed.py).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from bgad.anomalies.synthetic import Entries
from bgad.config.settings import Method, Recipe
from bgad.errors import BgadError
from bgad.model.flow import ConditionalFlow
from bgad.model.gpu.graphed import CudaRecorder, GraphedSteps, available
from bgad.training.adam import Adam
from bgad.training.losses import bgad_loss, bgad_without_anomalies_loss, maximum_likelihood
from bgad.training.sampling import MiniBatch, NormalImages, mini_batches


@dataclass(frozen=True)
class EpochReport:
    """What a meta epoch did: the mean loss of each level, and the last learning rate.

    ``state()`` is all that the training goes on from after it, in tensors and plain values.
    """

    epoch: int
    losses: tuple[float, ...]
    learning_rate: float
    state: Callable[[], dict] = field(compare=False, repr=False)


def train(
    recipe: Recipe,
    method: Method,
    flows: list[ConditionalFlow],
    normal: NormalImages,
    entries: Entries,
    rng: torch.Generator,
    state: dict | None = None,
) -> Iterator[EpochReport]:
    """Trains ``flows`` in place and yields after each meta epoch.

    ``entries()`` gives the anomaly entries of the next pass (fresh CutPaste images, where the recipe says so). With the
    ``state`` of an earlier report it goes on after that report's meta epoch, to the same bits on a CPU.
    """
    if method != "bgad":
        # The released loop without anomalies has one loader, so the slip of the pair's length is not in it.
        recipe = recipe.model_copy(update={"quirks": recipe.quirks.model_copy(update={"warm_up_counts_loaders": False})})
    schedule, quirks = recipe.schedule, recipe.quirks
    parameters = [p for flow in flows for p in flow.parameters() if p.requires_grad]
    device = parameters[0].device
    graphs = available(device)
    optimizer = Adam(parameters, recordable=graphs)
    losses = torch.zeros(len(flows), device=device)  # their sums, on the device: no step waits for its loss
    finite = torch.zeros(len(flows), device=device)  # each level's steps before the first whose loss was not finite
    moved: set[int] = set()  # the levels that momentum moves in every step, their own or not
    first = 0
    if state:
        first = state["epoch"] + 1
        for flow, values in zip(flows, state["flows"], strict=True):
            flow.load_state_dict(values)
        optimizer.resume(state["optimizer"])
        rng.set_state(state["rng"])
        moved.update(range(len(flows)) if quirks.idle_levels_keep_momentum else ())  # a meta epoch has steps of every level

    def state_after() -> dict:
        return {
            "epoch": epoch,
            "flows": [flow.state_dict() for flow in flows],
            "optimizer": optimizer.state(),
            "rng": rng.get_state(),
        }

    def step(batch: MiniBatch) -> None:
        loss = step_loss(recipe, method, epoch, flows[batch.level], batch)
        optimizer.zero_grad(set_to_none=not quirks.idle_levels_keep_momentum)
        loss.backward()
        optimizer.step()
        losses[batch.level].add_(loss.detach())
        finite[batch.level].add_(losses[batch.level].isfinite())  # a sum that is not finite stays so

    take = GraphedSteps(step, CudaRecorder(device)) if graphs else lambda kind, batch: step(batch)
    for epoch in range(first, schedule.meta_epochs):
        with_anomalies = method == "bgad" and epoch > 0
        losses.zero_()
        finite.zero_()
        steps = [0] * len(flows)
        for sub_epoch in range(schedule.sub_epochs):
            parts = entries() if with_anomalies else []
            for batch in mini_batches(recipe, normal, parts, sub_epoch, rng):
                rate = learning_rate(recipe, epoch, batch.step, batch.steps_per_epoch)
                optimizer.set_rate(rate)
                if quirks.idle_levels_keep_momentum:
                    moved.add(batch.level)
                take((batch.level, epoch > 0, batch.is_anomaly is None, frozenset(moved)), batch)
                steps[batch.level] += 1
        means = tuple((losses / torch.tensor(steps, device=device)).tolist())
        for level, mean in enumerate(means):
            if not math.isfinite(mean):
                raise BgadError(
                    f"training diverged: in meta epoch {epoch} the loss of level {level + 1} is not finite from its step "
                    f"{int(finite[level]) + 1} of {steps[level]} on; lower schedule.learning_rate in the recipe."
                )
        yield EpochReport(epoch, means, rate, state_after)


def step_loss(recipe: Recipe, method: Method, epoch: int, flow: ConditionalFlow, batch: MiniBatch) -> Tensor:
    """The loss of one step (BGAD, equation of the total loss; protocol: "Loss")."""
    log_likelihood = flow.log_likelihood(batch.features, batch.position)
    if epoch == 0 or method == "nf":
        return maximum_likelihood(log_likelihood)
    loss = recipe.loss
    constants = (loss.beta, loss.tau, loss.normalizer, loss.push_pull_weight, loss.focal)
    if method == "bgad-wo":
        return bgad_without_anomalies_loss(log_likelihood, *constants)
    return bgad_loss(log_likelihood, batch.is_anomaly, *constants)


def learning_rate(recipe: Recipe, epoch: int, step: int, steps_per_epoch: int) -> float:
    """The rate of a step: a cosine over the meta epochs, after a linear warm-up to the cosine's value at the warm-up's end.

    ``step`` of ``steps_per_epoch`` counts through all the passes of meta epoch ``epoch``.
    """
    schedule = recipe.schedule
    if epoch >= schedule.warm_up_epochs:
        return _cosine(recipe, epoch + (step / steps_per_epoch if schedule.cosine == "per_step" else 0))

    if recipe.quirks.warm_up_counts_loaders:
        # The released loop takes the length of its pair of loaders, 2, for the number of batches in a pass.
        sub_epoch, batch = divmod(step, max(1, steps_per_epoch // schedule.sub_epochs))
        step, steps_per_epoch = batch + 2 * sub_epoch, 2 * schedule.sub_epochs
    start, end = schedule.learning_rate * schedule.warm_up_from, _cosine(recipe, schedule.warm_up_epochs)
    done = (epoch + step / steps_per_epoch) / schedule.warm_up_epochs
    return start + done * (end - start)


def build_flows(
    recipe: Recipe, channels: Sequence[int], sides: Sequence[int], torch_rng: torch.Generator, frozen_rng: np.random.RandomState
) -> list[ConditionalFlow]:
    """One flow a level, for square maps of ``sides`` with ``channels``."""
    settings = recipe.flow
    return [
        ConditionalFlow(count, side, side, settings.blocks, settings.position_channels, settings.clamp, torch_rng, frozen_rng)
        for count, side in zip(channels, sides, strict=True)
    ]


def _cosine(recipe: Recipe, epoch: float) -> float:
    schedule = recipe.schedule
    lowest = schedule.learning_rate * schedule.final_rate
    return lowest + (schedule.learning_rate - lowest) * (1 + math.cos(math.pi * epoch / schedule.meta_epochs)) / 2
