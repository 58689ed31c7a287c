"""Steps as recorded graphs end where eager ones do. Without a GPU a recorder of PyTorch operations stands in for CUDA's.

Like CUDA's it keeps the operations of one run of a step with the very tensors that they read and wrote, and a replay runs
these again, whatever the Python code would decide by then.
"""

import math
import re

import numpy as np
import pytest
import torch
from test_train import SIDES, anomaly_entries, make_flows, normal_images, tiny
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bgad.errors import BgadError
from bgad.model.cpu import chain
from bgad.model.gpu import recorded
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
            tensor.copy_(value)  # recording has left all as it was
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
    """Training with graphs, recorded by the stand-in; blocks run in operations, as they do on a GPU."""
    result = OperationRecorder()
    monkeypatch.setattr(train, "available", lambda device: True)
    monkeypatch.setattr(train, "CudaRecorder", lambda device: result)
    monkeypatch.setattr(chain, "available", lambda x: False)
    # A graph has its rate in single precision.
    exact = train.learning_rate
    monkeypatch.setattr(train, "learning_rate", lambda *of: float(np.float32(exact(*of))))
    return result


def recipe_of(name, quirk):
    schedule = {"meta_epochs": 2, "learning_rate": 1e-3}
    sampling = {"level_shares": [0.2, 0.5, 1.0]} if name == "cpu" else {}
    return tiny(name, quirks={"idle_levels_keep_momentum": quirk}, schedule=schedule, flow={"blocks": 1}, sampling=sampling)


def run(recipe, method):
    flows = make_flows(recipe)
    reports = list(train.train(recipe, method, flows, normal_images(9), anomaly_entries, torch_generator("run")))
    return [parameter for flow in flows for parameter in flow.parameters()], reports


@pytest.mark.parametrize("quirk", [True, False])
@pytest.mark.parametrize("method", ["bgad", "bgad-wo", "nf"])
@pytest.mark.parametrize("name", ["paper", "cpu"])
def test_graphed_training_is_eager_training_to_the_bit(monkeypatch, recorder, name, method, quirk):
    recipe = recipe_of(name, quirk)
    parameters, reports = run(recipe, method)
    # 2 image batches of 16 + 4 + 1 steps, in 2 passes of each of the two phases: of 2 * (64, 16, 4) steps the first 3 are
    # eager. With the quirk, the first 16 of level 1 are a kind of their own, before the other levels move along, and so
    # are the first 4 of level 2.
    if name == "paper":
        first = [16 - 3, 48 - 3, 4 - 3, 12 - 3, 1] if quirk else [61, 13, 1]
        assert sorted(recorder.replays) == sorted([*first, 61, 13, 1])
    assert sum(recorder.replays) > 20
    monkeypatch.setattr(train, "available", lambda device: False)
    expected, expected_reports = run(recipe, method)
    assert all(torch.equal(a, b) for a, b in zip(parameters, expected, strict=True))
    assert reports == expected_reports


def test_graphed_training_finds_the_step_that_eager_training_finds(monkeypatch, recorder):
    recipe, said = recipe_of("paper", False), []
    for graphs in (True, False):
        monkeypatch.setattr(train, "available", lambda device, graphs=graphs: graphs)
        normal = normal_images(9)
        normal.levels[1][normal.rows[-1]] = math.nan  # an image that comes once in a pass
        with pytest.raises(BgadError) as error:
            list(train.train(recipe, "nf", make_flows(recipe), normal, list, torch_generator("run", 1)))
        said.append(str(error.value))
    assert said[0] == said[1]
    step = int(re.search(r"meta epoch 0 the loss of level 2 is not finite from its step (\d+) of 16 on", said[0])[1])
    assert step > WARM_UP  # a replayed one


@pytest.mark.parametrize("left_out", ["phase", "levels that move"])
def test_each_part_of_a_kind_decides_what_is_recorded(monkeypatch, recorder, left_out):
    # Otherwise the test above would not tell a graph from the code that it was recorded from.
    part = ["level", "phase", "flags", "levels that move"].index(left_out)
    take = RecordedSteps.__call__

    def without(self, kind, batch):
        return take(self, (*kind[:part], None, *kind[part + 1 :]), batch)

    recipe = recipe_of("paper", True)
    expected, _ = run(recipe, "bgad-wo")
    monkeypatch.setattr(RecordedSteps, "__call__", without)
    parameters, _ = run(recipe, "bgad-wo")
    assert not all(torch.equal(a, b) for a, b in zip(parameters, expected, strict=True))


def test_steps_of_a_kind_are_eager_then_recorded_then_replayed():
    seen, log = [], []

    class Recorder:
        def warm_up(self, work):
            log.append("eager")
            work()

        def record(self, work):
            log.append("recorded")
            return lambda: (log.append("replayed"), work())

    steps = RecordedSteps(lambda batch: seen.append((batch.features.sum().item(), batch.features.data_ptr())), Recorder())
    batches = [MiniBatch(0, torch.full((2, 3), float(n)), torch.zeros(2), None, n, 9) for n in range(WARM_UP + 3)]
    for batch in batches:
        steps("a kind", batch)
    steps("another", batches[0])
    assert log == ["eager"] * WARM_UP + ["recorded"] + ["replayed"] * 3 + ["eager"]
    assert [value for value, _ in seen] == [6.0 * n for n in range(WARM_UP + 3)] + [0.0]
    # Replays read one place, into which each mini-batch was copied, and which is none of the batches' own.
    (place,) = {where for _, where in seen[WARM_UP:-1]}
    assert place not in {batch.features.data_ptr() for batch in batches}


@pytest.mark.parametrize("method", ["bgad", "bgad-wo", "nf"])
def test_no_step_waits_for_a_number_from_the_device(method):
    # A tensor without values refuses whatever depends on one.
    recipe = tiny("paper")
    for level, flow in enumerate(make_flows(recipe)):
        flow = flow.to("meta")
        position = torch.empty(16, dtype=torch.long, device="meta")
        is_anomaly = torch.empty(16, dtype=torch.bool, device="meta")
        features = torch.empty(16, flow.channels, device="meta")
        for epoch in (0, 1):
            batch = MiniBatch(level, features, position, is_anomaly, 0, 1)
            train.step_loss(recipe, method, epoch, flow, batch).backward()
        assert flow.module_list[0].global_offset.grad.is_meta
    assert level == len(SIDES) - 1


def test_where_steps_are_recorded(monkeypatch):
    monkeypatch.delenv("BGAD_PLAIN", raising=False)
    assert available(torch.device("cuda", 1))
    assert not available(torch.device("cpu"))
    monkeypatch.setenv("BGAD_PLAIN", "1")
    assert not available(torch.device("cuda", 1))


@CUDA
@pytest.mark.parametrize("quirk", [True, False])
@pytest.mark.parametrize("name", ["paper", "cpu"])
def test_graphed_training_is_eager_training_on_a_gpu(monkeypatch, name, quirk):
    recipe = recipe_of(name, quirk)
    found = []
    for plain in ("", "1"):
        monkeypatch.setenv("BGAD_PLAIN", plain)
        flows = [flow.to("cuda") for flow in make_flows(recipe)]
        normal, rng = normal_images(9), torch_generator("run", device="cuda")
        normal.levels[:] = [level.to("cuda") for level in normal.levels]
        entries = [part.to(torch.device("cuda")) for part in anomaly_entries()]
        list(train.train(recipe, "bgad", flows, normal, lambda: entries, rng))  # noqa: B023
        found.append([parameter for flow in flows for parameter in flow.parameters()])
    assert recorded.available(torch.device("cuda")) is False  # the second run was eager
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
