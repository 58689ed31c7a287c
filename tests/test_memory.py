"""Out of memory: an evaluation goes on with fewer images and gives the same bits, and what cannot go on ends in a sentence."""

import errno
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from joblib.externals.loky.process_executor import TerminatedWorkerError

from bgad import cli, methods
from bgad.features.cache import FeatureCache
from bgad.memory import in_smaller_batches, is_out_of_memory
from bgad.methods import runner
from bgad.model.cpu import chain
from bgad.model.flow import ConditionalFlow
from bgad.model.scoring import scored
from bgad.randomness import frozen_generator, torch_generator

SIDES, CHANNELS, IMAGES = (8, 4, 2), (4, 5, 6), 11
ON_A_CPU = "[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."
ERRORS = [
    MemoryError("no memory for a flow's work"),
    np._core._exceptions._ArrayMemoryError((10**9,), np.dtype("f8")),
    RuntimeError(ON_A_CPU),
    RuntimeError("std::bad_alloc"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cusolver error: CUSOLVER_STATUS_INTERNAL_ERROR, when calling `cusolverDnCreate(handle)`."),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 78.00 GiB"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    TerminatedWorkerError("A worker process managed by the executor was unexpectedly terminated. This could be caused by a"),
]
OTHERS = [RuntimeError("shape '[2, 3]' is invalid for input of size 5"), OSError(errno.ENOSPC, "No space left"), ValueError()]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_fewer_images_at_once_until_they_fit(error, capsys):
    tried = []

    def work(images):
        tried.append(images)
        if images > 2:
            raise error
        return f"done with {images}"

    assert in_smaller_batches(work, 11) == "done with 2"
    assert tried == [11, 5, 2]
    assert capsys.readouterr().out == (
        "out of memory with 11 images at once; retrying with 5\nout of memory with 5 images at once; retrying with 2\n"
    )


def test_one_image_that_does_not_fit_is_the_end():
    tried = []

    def work(images):
        tried.append(images)
        raise MemoryError(str(images))

    with pytest.raises(MemoryError, match=r"^1$"):
        in_smaller_batches(work, 8)
    assert tried == [8, 4, 2, 1]


@pytest.mark.parametrize("error", OTHERS, ids=lambda error: type(error).__name__)
def test_another_failure_is_not_tried_again(error):
    tried = []

    def work(images):
        tried.append(images)
        raise error

    with pytest.raises(type(error)):
        in_smaller_batches(work, 8)
    assert tried == [8]
    assert not is_out_of_memory(error)


def flows_and_cache() -> tuple[list[ConditionalFlow], FeatureCache]:
    rng = torch.Generator().manual_seed(0)
    levels = [torch.randn(IMAGES, side**2, count, generator=rng) for side, count in zip(SIDES, CHANNELS, strict=True)]
    flows = [
        ConditionalFlow(count, side, side, 2, 8, 1.9, torch_generator("m"), frozen_generator("m"))
        for side, count in zip(SIDES, CHANNELS, strict=True)
    ]
    return flows, FeatureCache(32, [str(number) for number in range(IMAGES)], levels, None, 0.0)


@pytest.mark.parametrize("blocks", ["compiled", "plain"])
def test_an_evaluation_is_the_same_however_many_images_are_taken_at_once(blocks, monkeypatch):
    if blocks == "plain":
        monkeypatch.setattr(chain, "available", lambda x: False)
    flows, cache = flows_and_cache()

    scorer = runner.Scorer(methods.load("bgad"), cache, Path("part"), {})

    def maps(images):
        monkeypatch.setattr(runner, "IMAGES_AT_ONCE", images)
        levels = scorer.score(flows, torch.arange(IMAGES))
        return [*levels, scored(levels, 32, images_at_once=images)[0]]

    together = maps(IMAGES)
    assert all(torch.equal(a, b) for a, b in zip(together[3:], [scored(together[:3], 32)[0]], strict=True))
    for images in (1, 2, 3):
        for a, b in zip(maps(images), together, strict=True):
            assert torch.equal(a, b), f"{images} images"


LIMITED = """
import resource, torch
from pathlib import Path
from bgad.features.cache import FeatureCache
from bgad.methods import runner

class Method:
    def score(self, model, images):
        return [images.levels[0].new_ones(len(images), 128, 128, 280).sum(3)]

runner.IMAGES_AT_ONCE = 8
cache = FeatureCache(512, [str(n) for n in range(8)], [torch.ones(8, 128 * 128, 24)], None, 0.0)
rows, scorer = torch.arange(8), runner.Scorer(Method(), cache, Path("part"), {})
scorer.score(None, rows[:1])  # what is loaded at its first use is there
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
# 280 numbers a vector is 18 MB an image; all eight are 147 MB.
resource.setrlimit(resource.RLIMIT_AS, (used + 120 * 10**6, used + 120 * 10**6))
print(tuple(scorer.score(None, rows)[0].shape))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of a process's memory is Linux's")
def test_a_process_whose_memory_is_limited_goes_on():
    run = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    *tried, shape = run.stdout.splitlines()
    assert tried[0] == "out of memory with 8 images at once; retrying with 4"
    assert shape == "(8, 128, 128)"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (RuntimeError(ON_A_CPU + " Error code 12"), "or add memory.\n"),
        (
            ERRORS[6],
            "(CUDA out of memory); run fewer steps at once (--cores), or give each training more of the GPU (gpu_mb",
        ),
        (MemoryError(), "error: out of memory (MemoryError); run fewer steps at once"),
    ],
)
def test_a_command_that_runs_out_of_memory_ends_in_a_sentence(error, sentence, monkeypatch, capsys):
    def app():
        raise error

    monkeypatch.setattr(cli.app, "app", app)
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = capsys.readouterr().err
    assert end.value.code == 1
    assert said.startswith("error: out of memory (") and sentence in said and said.count("\n") == 1


def test_another_error_keeps_its_trace(monkeypatch):
    def app():
        raise OTHERS[0]

    monkeypatch.setattr(cli.app, "app", app)
    with pytest.raises(RuntimeError):
        cli.main()
