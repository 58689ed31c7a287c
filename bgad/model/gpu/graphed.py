"""Optimizer steps on a GPU as CUDA graphs: what a step launches is recorded once, and replayed as one launch.

A step of a flow is some 600 small operations, and launching one can take longer than running it. Recorded, the processor
fills in a step's input and launches its graph. Nothing in a step may wait for a number from the device, and whatever
decides what it launches belongs into its kind.
"""

import os
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import replace

import torch
from torch import Tensor

from bgad.training.sampling import MiniBatch

# Eager steps of each kind before it is recorded: libraries set themselves up, and gradients and Adam's state come to be. They
# are ordinary steps of the training, so nothing has to be put back after them.
WARM_UP = 3


def available(device: torch.device) -> bool:
    """Whether steps on ``device`` are recorded: on a GPU, unless $BGAD_PLAIN is set."""
    return device.type == "cuda" and not os.environ.get("BGAD_PLAIN")


class GraphedSteps:
    """Calls ``step`` for mini-batches, each kind of them from its own graph as soon as it is warm.

    ``step`` has to do the same to tensors that stay in their place, for all mini-batches of a kind, which are of one size.
    ``recorder`` is a CudaRecorder, or in its place anything that has its two functions.
    """

    def __init__(self, step: Callable[[MiniBatch], None], recorder: "CudaRecorder"):
        self._step, self._recorder = step, recorder
        self._taken: Counter[Hashable] = Counter()
        self._graphs: dict[Hashable, tuple[MiniBatch, Callable[[], None]]] = {}

    def __call__(self, kind: Hashable, batch: MiniBatch) -> None:
        if kind in self._graphs:
            place, replay = self._graphs[kind]
            for to, of in zip(_tensors(place), _tensors(batch), strict=True):
                to.copy_(of)
            replay()
        elif self._taken[kind] < WARM_UP:
            self._taken[kind] += 1
            self._recorder.warm_up(lambda: self._step(batch))
        else:
            flags = None if batch.is_anomaly is None else batch.is_anomaly.clone()
            place = replace(batch, features=batch.features.clone(), position=batch.position.clone(), is_anomaly=flags)
            replay = self._recorder.record(lambda: self._step(place))
            self._graphs[kind] = place, replay
            replay()  # recording has run nothing


class CudaRecorder:
    """Records work as CUDA graphs, which share their memory: they are replayed one after the other."""

    def __init__(self, device: torch.device):
        self._device = device
        # Work is warmed up on the stream that it is recorded on; recording cannot be done on the default one.
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def warm_up(self, work: Callable[[], None]) -> None:
        """Does ``work``, after all that came before and before all that comes after."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            work()
        current.wait_stream(self._stream)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """What does ``work`` whenever it is called. Recording itself leaves all tensors as they are."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self._device), torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
            work()
        return graph.replay


def _tensors(batch: MiniBatch) -> list[Tensor]:
    return [tensor for tensor in (batch.features, batch.position, batch.is_anomaly) if tensor is not None]
