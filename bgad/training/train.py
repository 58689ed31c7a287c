"""BGAD's training loop, top to bottom (docs/protocol.md, Training).

Meta epoch 0 fits the flows to normal vectors by maximum likelihood. From meta epoch 1 on, each step finds the explicit
boundary of its normal vectors and adds the boundary guided semi-push-pull loss, with the known anomalies in the data
(method ``bgad``), or only the pull, on normal vectors (``bgad-wo``, the paper's "without anomalies" row). ``nf``, the plain
conditional flow, uses maximum likelihood throughout.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from bgad.anomalies.entries import AnomalyEntries
from bgad.config.settings import Method, Recipe
from bgad.errors import TrainingError
from bgad.model.flow import ConditionalFlow
from bgad.model.gpu.recorded import CudaRecorder, RecordedSteps, available
from bgad.training.adam import Adam
from bgad.training.checkpoint import Checkpoint
from bgad.training.losses import bgad_loss, bgad_without_anomalies_loss, maximum_likelihood
from bgad.training.sampling import MiniBatch, mini_batches


@dataclass
class Epochs:
    """What a training does between its epochs, and what it has done so far.

    ``evaluate(model, epoch)`` returns the metrics of an epoch as columns of history.csv; ``log`` prints a line. ``history`` has
    a row for each epoch; ``seconds`` is the training time without evaluations.
    """

    evaluate: Callable[[object, int], dict]
    log: Callable[[str], None] = print
    checkpoint: Checkpoint | None = None
    history: list[dict] = field(default_factory=list)
    seconds: float = 0.0

    def resumed(self) -> dict | None:
        """The state of the last checkpoint, or None. Takes over its history and seconds."""
        state = self.checkpoint.load() if self.checkpoint else None
        if state:
            self.history, self.seconds = state["history"], state["seconds"]
            self.log(f"resuming after epoch {len(self.history)} from checkpoint.pt")
        return state


def train(
    recipe: Recipe,
    method: Method,
    flows: list[ConditionalFlow],
    normal: list[Tensor],
    entries: Iterator[AnomalyEntries],
    rng: torch.Generator,
    epochs: Epochs,
    state: dict | None = None,
) -> None:
    """Trains ``flows`` in place and adds a row per epoch to ``epochs``.

    ``normal``: the feature vectors of the normal training images, (N, h * w, C) per level. ``entries`` yields the anomaly
    entries of each pass. With the ``state`` of a checkpoint, training resumes after its epoch, to the same bits on a CPU.
    TrainingError if a loss is not finite.
    """
    schedule, quirks, constants = recipe.schedule, recipe.quirks, recipe.loss.model_dump()
    parameters = [p for flow in flows for p in flow.parameters() if p.requires_grad]
    device = parameters[0].device
    optimizer = Adam(parameters, recordable=available(device))
    losses = torch.zeros(len(flows), device=device)  # sums, kept on the device: no step waits for its loss
    finite_steps = torch.zeros(len(flows), device=device)  # per level, before its loss stopped being finite
    moving: set[int] = set()  # levels that Adam's momentum moves in every step
    first = _resume(state, flows, optimizer, rng, moving, recipe) if state else 0

    def step(batch: MiniBatch) -> None:
        log_likelihood = flows[batch.level].log_likelihood(batch.features, batch.position)
        if epoch == 0 or method == "nf":
            loss = maximum_likelihood(log_likelihood)
        elif method == "bgad-wo":
            loss = bgad_without_anomalies_loss(log_likelihood, **constants)
        else:
            loss = bgad_loss(log_likelihood, batch.is_anomaly, **constants)
        optimizer.zero_grad(set_to_none=not quirks.idle_levels_keep_momentum)
        loss.backward()
        if schedule.gradient_norm is not None:
            clip_grad_norm_(flows[batch.level].parameters(), schedule.gradient_norm)
        optimizer.step()
        losses[batch.level].add_(loss.detach())
        finite_steps[batch.level].add_(losses[batch.level].isfinite())  # a sum that is not finite stays so

    take_step = _on(device, step)
    for epoch in range(first, schedule.meta_epochs):
        started = time.perf_counter()
        losses.zero_()
        finite_steps.zero_()
        steps = [0] * len(flows)
        for sub_epoch in range(schedule.sub_epochs):
            of_pass = next(entries) if method == "bgad" and epoch > 0 else []
            for batch in mini_batches(recipe, normal, of_pass, sub_epoch, rng):
                rate = learning_rate(recipe, epoch, batch.step, batch.steps_per_epoch, one_loader=method != "bgad")
                optimizer.set_rate(rate)
                if quirks.idle_levels_keep_momentum:
                    moving.add(batch.level)
                take_step(batch, (batch.level, epoch > 0, batch.is_anomaly is None, frozenset(moving)))
                steps[batch.level] += 1
        means = (losses / torch.tensor(steps, device=device)).tolist()
        _check_finite(means, finite_steps.tolist(), steps, epoch)
        epochs.seconds += time.perf_counter() - started

        row = {"epoch": epoch, "learning_rate": rate, **{f"loss_{level}": mean for level, mean in enumerate(means, start=1)}}
        last = epoch == schedule.meta_epochs - 1
        if last or (epoch + 1) % schedule.evaluate_every == 0:
            row |= epochs.evaluate(flows, epoch)
        epochs.history.append(row | {"seconds": round(epochs.seconds, 3)})
        epochs.log(_line(epochs.history[-1], schedule.meta_epochs))
        if epochs.checkpoint and (last or epochs.checkpoint.is_due):
            epochs.checkpoint.save(_state(epoch, flows, None if last else optimizer, rng, epochs))


def learning_rate(recipe: Recipe, epoch: int, step: int, steps_per_epoch: int, one_loader: bool = False) -> float:
    """The rate of a step: a cosine over the meta epochs, after a linear warm-up to the cosine's value at the warm-up's end.

    ``step`` of ``steps_per_epoch`` counts through all the passes of meta epoch ``epoch``. ``one_loader``: only normal images
    are loaded, so the released code's quirk of counting loaders does not apply.
    """
    schedule = recipe.schedule
    if epoch >= schedule.warm_up_epochs:
        return _cosine(recipe, epoch + (step / steps_per_epoch if schedule.cosine == "per_step" else 0))

    if recipe.quirks.warm_up_counts_loaders and not one_loader:
        # The released loop takes the length of its pair of loaders, 2, for the number of batches in a pass.
        sub_epoch, batch = divmod(step, max(1, steps_per_epoch // schedule.sub_epochs))
        step, steps_per_epoch = batch + 2 * sub_epoch, 2 * schedule.sub_epochs
    start, end = schedule.learning_rate * schedule.warm_up_from, _cosine(recipe, schedule.warm_up_epochs)
    done = (epoch + step / steps_per_epoch) / schedule.warm_up_epochs
    return start + done * (end - start)


def _cosine(recipe: Recipe, epoch: float) -> float:
    schedule = recipe.schedule
    lowest = schedule.learning_rate * schedule.final_rate
    return lowest + (schedule.learning_rate - lowest) * (1 + math.cos(math.pi * epoch / schedule.meta_epochs)) / 2


def _on(device: torch.device, step: Callable[[MiniBatch], None]) -> Callable[[MiniBatch, tuple], None]:
    """``step`` as it runs on ``device``: on a GPU each kind of step is recorded once as a CUDA graph and replayed."""
    if not available(device):
        return lambda batch, kind: step(batch)
    recorded = RecordedSteps(step, CudaRecorder(device))
    return lambda batch, kind: recorded(kind, batch)


def _state(
    epoch: int, flows: list[ConditionalFlow], optimizer: Adam | None, rng: torch.Generator, epochs: Epochs
) -> dict[str, object]:
    """The content of a checkpoint after an epoch: tensors and plain values. After the last one, it has no optimizer."""
    return {
        "epoch": epoch,
        "flows": [flow.state_dict() for flow in flows],
        "optimizer": optimizer.state() if optimizer else None,
        "rng": rng.get_state(),
        "history": epochs.history,
        "seconds": epochs.seconds,
    }


def _resume(
    state: dict, flows: list[ConditionalFlow], optimizer: Adam, rng: torch.Generator, moving: set[int], recipe: Recipe
) -> int:
    """Restores everything from the ``state`` of a checkpoint and returns the next epoch."""
    for flow, values in zip(flows, state["flows"], strict=True):
        flow.load_state_dict(values)
    if state["optimizer"] is not None:
        optimizer.resume(state["optimizer"])
    rng.set_state(state["rng"])
    if recipe.quirks.idle_levels_keep_momentum:
        moving.update(range(len(flows)))  # every epoch has steps of every level
    return state["epoch"] + 1


def _check_finite(means: list[float], finite: list[float], steps: list[int], epoch: int) -> None:
    for level, mean in enumerate(means):
        if not math.isfinite(mean):
            raise TrainingError(
                f"training diverged: in meta epoch {epoch} the loss of level {level + 1} is not finite from step "
                f"{int(finite[level]) + 1} of {steps[level]} on; lower schedule.learning_rate in the recipe."
            )


def _line(row: dict, meta_epochs: int) -> str:
    """A row of the history as a line of the log."""
    losses = " ".join(f"{row[name]:.3f}" for name in row if name.startswith("loss_"))
    metrics = [f"{name} {row[name]:.2f}" for name in ("image_auroc", "pixel_auroc", "aupro") if row.get(name) is not None]
    return "  ".join([f"epoch {row['epoch'] + 1}/{meta_epochs}", f"loss {losses}", f"{row['seconds']:.1f} s", *metrics])
