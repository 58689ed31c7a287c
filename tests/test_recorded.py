"""Recorded steps end where eager ones do. Without a GPU a recorder of PyTorch operations stands in for CUDA's.

Like CUDA's it keeps the operations of one run of a step, with the very tensors that they read and wrote. A replay runs these
again, whatever the Python code would decide by then.
"""

import math
import re
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import pytest
import torch
from test_train import CHANNELS, anomaly_entries, make_flows, normal_images, run, tiny
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bgad.errors import TrainingError
from bgad.model.cpu import chain
from bgad.model.gpu import blocks as gpu_blocks
from bgad.model.gpu.recorded import WARM_UP, RecordedSteps, available
from bgad.randomness import torch_generator
from bgad.training import train
from bgad.training.sampling import MiniBatch

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class OperationRecorder(TorchDispatchMode):
    """``warm_up`` and ``record`` as CudaRecorder has them, on a CPU."""

    def __init__(self):
        super().__init__()
        self.operations, self.before, self.replays = [], {}, []

    def warm_up(self, work):
        work()

    def record(self, work):
        self.operations, self.before = [], {}
        with self:
            work()
        for tensor, value in self.before.values():
            tensor.copy_(value)  # recording leaves all as it was
        operations, number = self.operations, len(self.replays)
        self.replays.append(0)

        def replay():
            self.replays[number] += 1
            with torch.no_grad():
                for function, args, kwargs, outputs in operations:
                    for to, of in zip(outputs, tensors(function(*args, **kwargs)), strict=True):
                        if to.data_ptr() != of.data_ptr():
                            to.copy_(of)

        return replay

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        written = [
            tensor
            for argument, value in zip(function._schema.arguments, args, strict=False)
            if argument.alias_info and argument.alias_info.is_write
            for tensor in tensors(value)
        ]
        with torch.no_grad():
            for tensor in written:
                self.before.setdefault(tensor.data_ptr(), (tensor.detach(), tensor.clone()))
            result = function(*args, **(kwargs or {}))
        self.operations.append((function, args, kwargs or {}, tensors(result)))
        return result


def tensors(tree) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


@pytest.fixture
def recorder(monkeypatch) -> OperationRecorder:
    """Training with graphs, recorded by the stand-in; blocks run in the operations of a GPU."""
    result = OperationRecorder()
    monkeypatch.setattr(train, "available", lambda device: True)
    monkeypatch.setattr(train, "CudaRecorder", lambda device: result)
    monkeypatch.setattr(chain, "available", lambda x: False)
    monkeypatch.setattr(gpu_blocks, "available", lambda device: True)
    # A graph has its rate in single precision.
    exact = train.learning_rate
    monkeypatch.setattr(train, "learning_rate", lambda *of, **more: float(np.float32(exact(*of, **more))))
    return result


def recipe_of(name, quirk):
    schedule = {"meta_epochs": 2, "learning_rate": 1e-3}
    sampling = {"level_steps": [7, 4, 2]} if name == "cpu" else {}
    return tiny(name, quirks={"idle_levels_keep_momentum": quirk}, schedule=schedule, flow={"blocks": 1}, sampling=sampling)


def trained(recipe, method):
    flows, rows = run(recipe, method, normal=normal_images(9))
    return [parameter for flow in flows for parameter in flow.parameters()], rows


@pytest.mark.parametrize("quirk", [True, False])
@pytest.mark.parametrize("method", ["bgad", "bgad-wo", "nf"])
@pytest.mark.parametrize("name", ["paper", "cpu"])
def test_recorded_training_equals_eager_training_to_the_bit(monkeypatch, recorder, name, method, quirk):
    recipe = recipe_of(name, quirk)
    parameters, rows = trained(recipe, method)
    # 2 image batches of 16 + 4 + 1 steps, in 2 passes of both phases: of 2 * (64, 16, 4) steps the first 3 are eager. With the
    # quirk, the first 16 of level 1 are a kind of their own, before the other levels move along, and so are the first 4 of
    # level 2.
    if name == "paper":
        first = [16 - 3, 48 - 3, 4 - 3, 12 - 3, 1] if quirk else [61, 13, 1]
        assert sorted(recorder.replays) == sorted([*first, 61, 13, 1])
    assert sum(recorder.replays) > 20
    monkeypatch.setattr(train, "available", lambda device: False)
    expected, expected_rows = trained(recipe, method)
    assert all(torch.equal(a, b) for a, b in zip(parameters, expected, strict=True))
    assert rows == expected_rows


def test_recorded_training_names_the_step_that_diverged_as_eager_training_does(monkeypatch, recorder):
    recipe, messages = recipe_of("paper", False), []
    for graphs in (True, False):
        monkeypatch.setattr(train, "available", lambda device, graphs=graphs: graphs)
        normal = normal_images(9)
        normal[1][-1] = math.nan  # an image that occurs once in a pass
        with pytest.raises(TrainingError) as error:
            run(recipe, "nf", seed=1, normal=normal)
        messages.append(str(error.value))
    assert messages[0] == messages[1]
    step = int(re.search(r"epoch 0 .* level 2 .* step (\d+) of 16", messages[0])[1])
    assert step > WARM_UP  # a replayed one


@pytest.mark.parametrize("left_out", ["phase", "levels that move"])
def test_every_part_of_a_kind_decides_what_is_recorded(monkeypatch, recorder, left_out):
    # Otherwise the first test could not tell a graph from the code that it was recorded from.
    part = ["level", "phase", "flags", "levels that move"].index(left_out)
    take = RecordedSteps.__call__

    def without(self, kind, batch):
        return take(self, (*kind[:part], None, *kind[part + 1 :]), batch)

    recipe = recipe_of("paper", True)
    expected, _ = trained(recipe, "bgad-wo")
    monkeypatch.setattr(RecordedSteps, "__call__", without)
    parameters, _ = trained(recipe, "bgad-wo")
    assert not all(torch.equal(a, b) for a, b in zip(parameters, expected, strict=True))


@dataclass
class Batch:
    """Tensors and plain values, as RecordedSteps takes them."""

    name: str
    values: torch.Tensor
    flags: torch.Tensor | None


def test_steps_of_a_kind_are_eager_then_recorded_then_replayed():
    seen, log = [], []

    class Recorder:
        def warm_up(self, work):
            log.append("eager")
            work()

        def record(self, work):
            log.append("recorded")
            return lambda: (log.append("replayed"), work())

    steps = RecordedSteps(lambda batch: seen.append((batch.values.sum().item(), batch.values.data_ptr())), Recorder())
    batches = [Batch(f"batch {n}", torch.full((2, 3), float(n)), None) for n in range(WARM_UP + 3)]
    for batch in batches:
        steps("a kind", batch)
    steps("another", batches[0])
    assert log == ["eager"] * WARM_UP + ["recorded"] + ["replayed"] * 3 + ["eager"]
    assert [value for value, _ in seen] == [6.0 * n for n in range(WARM_UP + 3)] + [0.0]
    # Replays read one place, into which every batch was copied, and which belongs to none of them.
    (place,) = {where for _, where in seen[WARM_UP:-1]}
    assert place not in {batch.values.data_ptr() for batch in batches}


@pytest.mark.parametrize("method", ["bgad", "bgad-wo", "nf"])
def test_no_step_waits_for_a_number_from_the_device(method, monkeypatch):
    # A tensor without values refuses whatever depends on one.
    recipe, steps = recipe_of("paper", False), []

    class WithoutSteps(train.Adam):
        def step(self):  # PyTorch's fused kernel has no form for such tensors
            steps.extend(parameter.grad.is_meta for parameter in self.parameters if parameter.grad is not None)

    def batches(*_):
        for level, channels in enumerate(CHANNELS):
            vectors, ones = torch.empty(16, channels, device="meta"), torch.empty(16, device="meta")
            yield MiniBatch(level, vectors, ones.long(), ones.bool(), 0, 1)

    monkeypatch.setattr(train, "Adam", WithoutSteps)
    monkeypatch.setattr(train, "mini_batches", batches)
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: [0.0] * len(self))  # what an epoch waits for
    flows = [flow.to("meta") for flow in make_flows(recipe)]
    epochs = train.Epochs(lambda flows, epoch: {}, log=lambda line: None)
    train.train(recipe, method, flows, [], repeat([]), torch.Generator(), epochs)
    # 6 tensors of the block of one level have gradients in each of the steps: 3 levels, 2 passes in 2 epochs.
    assert steps == [True] * 6 * len(CHANNELS) * 4


def test_where_steps_are_recorded(monkeypatch):
    monkeypatch.delenv("BGAD_PLAIN", raising=False)
    assert available(torch.device("cuda", 1))
    assert not available(torch.device("cpu"))
    monkeypatch.setenv("BGAD_PLAIN", "1")
    assert not available(torch.device("cuda", 1))


@CUDA
@pytest.mark.parametrize("quirk", [True, False])
@pytest.mark.parametrize("name", ["paper", "cpu"])
def test_recorded_training_equals_eager_training_on_a_gpu(monkeypatch, name, quirk):
    recipe, found = recipe_of(name, quirk), []
    for recorded in (True, False):
        monkeypatch.setattr(train, "available", lambda device, recorded=recorded: recorded)
        flows = [flow.to("cuda") for flow in make_flows(recipe)]
        normal = [level.to("cuda") for level in normal_images(9)]
        entries = repeat([part.to(torch.device("cuda")) for part in anomaly_entries()])
        epochs = train.Epochs(lambda flows, epoch: {}, log=lambda line: None)
        train.train(recipe, "bgad", flows, normal, entries, torch_generator("run", device="cuda"), epochs)
        found.append([parameter for flow in flows for parameter in flow.parameters()])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
