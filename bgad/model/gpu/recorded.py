"""Steps on a GPU as CUDA graphs: what a step launches is recorded once, and replayed as one launch.

A step of a flow is some 600 small operations, and launching one can take longer than running it. After recording, the
processor copies a step's input into place and launches its graph. A step must never wait for a number from the device, and
whatever decides what it launches must be part of its kind.
"""

import os
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

# Eager steps of each kind before recording: libraries initialize, and gradients and Adam's state are created. They are
# ordinary training steps, so nothing has to be undone.
WARM_UP = 3


def available(device: torch.device) -> bool:
    """Whether steps on ``device`` are recorded: on a GPU, unless $BGAD_PLAIN is set."""
    return device.type == "cuda" and not os.environ.get("BGAD_PLAIN")


class RecordedSteps:
    """Calls ``step`` on batches; each kind of batch is recorded once it is warm, and replayed from then on.

    A batch is a dataclass of tensors and plain values. ``step`` must do the same to the same tensors for all batches of a
    kind, whose tensors have the same shapes. ``recorder`` is a CudaRecorder or has its two functions.
    """

    def __init__(self, step: Callable[[Any], None], recorder: "CudaRecorder"):
        self._step, self._recorder = step, recorder
        self._taken: Counter[Hashable] = Counter()
        self._graphs: dict[Hashable, tuple[Any, Callable[[], None]]] = {}

    def __call__(self, kind: Hashable, batch: Any) -> None:
        if kind in self._graphs:
            place, replay = self._graphs[kind]
            for name, values in _tensors(batch).items():
                getattr(place, name).copy_(values)
            replay()
        elif self._taken[kind] < WARM_UP:
            self._taken[kind] += 1
            self._recorder.warm_up(lambda: self._step(batch))
        else:
            place = replace(batch, **{name: values.clone() for name, values in _tensors(batch).items()})
            replay = self._recorder.record(lambda: self._step(place))
            self._graphs[kind] = place, replay
            replay()  # recording has run nothing


class CudaRecorder:
    """Records work as CUDA graphs, which share their memory because they are replayed one after another."""

    def __init__(self, device: torch.device):
        self._device = device
        # Work warms up on the stream that it is recorded on, which cannot be the default one.
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def warm_up(self, work: Callable[[], None]) -> None:
        """Runs ``work`` after everything queued before it, and before everything queued after it."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            work()
        current.wait_stream(self._stream)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Returns a function that runs ``work`` at each call. Recording itself leaves all tensors as they are."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self._device), torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
            work()
        return graph.replay


def _tensors(batch: Any) -> dict[str, Tensor]:
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}
