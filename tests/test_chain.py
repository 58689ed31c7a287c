"""The compiled chain against FrEIA's own forward in double precision; and what happens without a compiler."""

import flows
import pytest
import torch
from flows import assert_equal, make_flow

from bgad.model.cpu import chain, compiler

needs_a_compiler = pytest.mark.skipif(chain._library() is None, reason="no C compiler on this machine")

# channels (odd: P and A differ), position channels, height, width, blocks, vectors: around the tile of 64 and the panels of 24
SHAPES = [
    (2, 4, 1, 1, 1, 1),
    (7, 8, 3, 5, 2, 63),
    (24, 128, 64, 64, 8, 64),
    (25, 12, 70, 2, 3, 65),
    (40, 128, 32, 32, 8, 700),
    (112, 128, 16, 16, 2, 130),
]


def some_vectors(channels, height, width, count):
    rng = torch.Generator().manual_seed(5)
    position = torch.randint(height * width, (count,), generator=rng)
    return torch.randn(count, channels, generator=rng), position, torch.randn(count, generator=rng)


def values_and_gradients(flow, x, position, weights):
    return flows.values_and_gradients(lambda x: flow.log_likelihood(x, position), flow, x, weights)


@needs_a_compiler
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_freia(shape):
    *of_flow, count = shape
    flow = make_flow(*of_flow)
    x, position, weights = some_vectors(shape[0], *shape[2:4], count)
    assert chain.available(x) and not chain.available(x.double())
    found = values_and_gradients(flow, x, position, weights)
    expected = values_and_gradients(flow.double(), x.double(), position, weights.double())
    assert_equal(found, expected, 1e-5)


@needs_a_compiler
def test_maps_and_single_vectors_agree():
    flow = make_flow(9, 8, 3, 5, 2)
    maps = torch.randn(4, 15, 9, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        found = flow.log_likelihood_maps(maps)
        single = flow.log_likelihood(maps[2, 3 * 1 + 2 : 3 * 1 + 3], torch.tensor([5]))
    assert torch.equal(found[2, 1, 0], single[0])
    torch.testing.assert_close(found.double(), flow.double().log_likelihood_maps(maps.double()), rtol=1e-5, atol=1e-5)


@needs_a_compiler
def test_threads_share_the_vectors_and_change_nothing():
    flow, (x, position, weights) = make_flow(24, 128, 8, 8, 3), some_vectors(24, 8, 8, 3 * chain.SMALLEST_SHARE + 1)
    found, calls = {}, []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            calls.append(len(chain._shares(len(x))))
            found[threads] = values_and_gradients(flow, x, position, weights)
    finally:
        torch.set_num_threads(1)
    assert calls == [1, 2, 3]
    for threads in (2, 3):
        assert torch.equal(found[threads]["log-likelihood"], found[1]["log-likelihood"])
        assert torch.equal(found[threads]["x"], found[1]["x"])
        assert_equal(found[threads], found[1], 1e-5)  # sums in another order


@needs_a_compiler
def test_gradients_of_views_and_without_one_of_the_features():
    """Vectors that are not contiguous; and, as in training, no gradient of the features."""
    flow, (x, position, weights) = make_flow(10, 8, 4, 4, 2), some_vectors(10, 4, 4, 100)
    expected = values_and_gradients(flow, x, position, weights)
    spread = torch.stack([x, -x], dim=2)[..., 0]
    assert not spread.is_contiguous()
    (flow.log_likelihood(spread, position) * weights).sum().backward()
    for name, parameter in flow.named_parameters():
        if parameter.requires_grad:
            assert torch.equal(parameter.grad, expected[name])
        else:
            assert parameter.grad is None


@needs_a_compiler
@pytest.mark.parametrize("what", ["feature", "first weight", "last weight"])
def test_a_nan_is_not_hidden(what):
    """Careless forms of ReLU and e^x turn a NaN into a number."""
    flow, (x, position, _) = make_flow(10, 8, 4, 4, 1), some_vectors(10, 4, 4, 70)
    with torch.no_grad():
        if what == "feature":
            x[3, 0] = torch.nan
        else:
            flow.module_list[0].subnet[0 if what == "first weight" else 2].weight[1, 2] = torch.nan
        found = flow.log_likelihood(x, position)
    assert found[3].isnan()
    assert what != "feature" or found.isnan().sum() == 1


@needs_a_compiler
def test_extreme_vectors_equal_freia():
    flow, (x, position, _) = make_flow(10, 8, 4, 4, 2), some_vectors(10, 4, 4, 70)
    with torch.no_grad():
        found, expected = flow.log_likelihood(1e4 * x, position), flow.double().log_likelihood(1e4 * x.double(), position)
    assert_equal({"log-likelihood": found}, {"log-likelihood": expected}, 1e-5)
    assert expected.abs().max() > 1e6


# --- building -------------------------------------------------------------------------------------------------------


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a cache"))
    monkeypatch.delenv("BGAD_PLAIN", raising=False)
    return tmp_path / "a cache" / "bgad"


def test_without_a_compiler_it_says_so_and_freia_runs(own_cache, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(chain, "_library", lambda: compiler.compiled(*chain.SOURCES))
    flow, (x, position, weights) = make_flow(10, 8, 4, 4, 2), some_vectors(10, 4, 4, 70)
    assert chain.describe() == "plain"
    assert "chain.c" in capsys.readouterr().err
    found = values_and_gradients(flow, x, position, weights)
    assert_equal(found, values_and_gradients(flow.double(), x.double(), position, weights.double()), 1e-5)


def test_a_compiler_that_fails_leaves_nothing_behind(own_cache, tmp_path, monkeypatch, capsys):
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\necho 'no space left for a temporary file' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    assert compiler.compiled(*chain.SOURCES) is None
    assert "no space left for a temporary file" in capsys.readouterr().err
    assert list(own_cache.iterdir()) == []


@needs_a_compiler
def test_a_built_library_is_used_until_a_source_changes(own_cache, tmp_path, monkeypatch):
    source, header = tmp_path / "one.c", tmp_path / "one.h"
    header.write_text("static int one(void) { return 1; }\n")
    source.write_text('#include "one.h"\nint answer(void) { return one(); }\n')
    assert compiler.compiled(source, header).answer() == 1
    (built,) = own_cache.iterdir()
    before = built.stat()
    assert compiler.compiled(source, header).answer() == 1
    assert built.stat().st_mtime_ns == before.st_mtime_ns
    header.write_text("static int one(void) { return 2; }\n")
    assert compiler.compiled(source, header).answer() == 2
    monkeypatch.setenv("BGAD_PLAIN", "1")
    assert compiler.compiled(source, header) is None
