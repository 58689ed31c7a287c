"""The flow against FrEIA 0.2 as the protocol builds it, its own Jacobian, and as a density; rotations against Haar measure."""

import math

import numpy as np
import pytest
import torch
from flows import assert_equal, make_flow, moved_away, values_and_gradients
from FrEIA.framework import SequenceINN
from FrEIA.modules import AllInOneBlock
from scipy.stats import kstest
from torch import nn

from bgad.model.cpu import chain
from bgad.model.flow import random_rotation
from bgad.model.gpu import blocks as gpu_blocks
from bgad.model.position import sincos_2d
from bgad.randomness import frozen_generator

HEIGHT, WIDTH = 3, 5


def freia_flow(channels, position_channels, blocks=8, clamp=1.9):
    """As the protocol says ("flow, one per level")."""
    sequence = SequenceINN(channels)
    for _ in range(blocks):
        sequence.append(
            AllInOneBlock,
            cond=0,
            cond_shape=(position_channels,),
            subnet_constructor=lambda i, o: nn.Sequential(nn.Linear(i, 2 * i), nn.ReLU(), nn.Linear(2 * i, o)),
            affine_clamping=clamp,
            global_affine_type="SOFTPLUS",
            permute_soft=True,
        )
    return sequence


def freia_log_likelihood(sequence, features, position, position_channels):
    """logp = -0.9189385 C - 0.5 |z|^2 + log |det J|, over C; the condition is the position code of each vector."""
    channels = features.shape[1]
    code = sincos_2d(position_channels, HEIGHT, WIDTH).flatten(1).T.to(features.dtype)
    z, log_det = sequence(features, [code[position]])
    return (-0.9189385332046727 * channels - 0.5 * z.square().sum(1) + log_det) / channels


def some_vectors(channels, count=40, dtype=torch.float32):
    rng = torch.Generator().manual_seed(11)
    features = torch.randn(count, channels, generator=rng, dtype=dtype)
    return features, torch.randint(HEIGHT * WIDTH, (count,), generator=rng)


def code_at(flow, position):
    return torch.cat([flow.columns[position % WIDTH], flow.rows[position // WIDTH]], dim=1)


# --- FrEIA ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["as it is", "plain", "fused for a GPU"])
@pytest.mark.parametrize(("channels", "position_channels"), [(7, 128), (24, 128), (2, 8), (3, 8)])
def test_values_and_gradients_equal_those_of_freia(channels, position_channels, way, monkeypatch):
    if way != "as it is":
        monkeypatch.setattr(chain, "available", lambda x: False)
        monkeypatch.setattr(gpu_blocks, "available", lambda device: way == "fused for a GPU")
    ours, theirs = make_flow(channels, position_channels), freia_flow(channels, position_channels)
    assert type(ours.module_list[0]) is AllInOneBlock
    theirs.load_state_dict(ours.state_dict())  # strict: the same names and shapes
    theirs = theirs.double()
    features, position = some_vectors(channels)
    weights = torch.linspace(0.1, 1, len(features))
    found = values_and_gradients(lambda x: ours.log_likelihood(x, position), ours, features, weights)
    expected = values_and_gradients(
        lambda x: freia_log_likelihood(theirs, x, position, position_channels), theirs, features.double(), weights.double()
    )
    assert_equal(found, expected, 1e-5)
    assert len(found) == 2 + 8 * 6  # scale, offset, and two weights with their biases; the rotation is fixed
    assert found["log-likelihood"].std() > 0.01  # not all the same, where anything would agree


def test_double_precision_equals_freia_in_double_precision():
    ours, theirs = make_flow(7, 16).double(), freia_flow(7, 16).double()
    theirs.load_state_dict(ours.state_dict())
    features, position = some_vectors(7, dtype=torch.float64)
    expected = freia_log_likelihood(theirs, features, position, 16)
    torch.testing.assert_close(ours.log_likelihood(features, position), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("channels", [7, 8])
def test_a_checkpoint_loads_whether_freia_or_an_earlier_version_wrote_it(channels):
    theirs, ours = moved_away(freia_flow(channels, 16)), make_flow(channels, 16, seed=1)
    ours.load_state_dict(theirs.state_dict())
    features, position = some_vectors(channels)
    expected = freia_log_likelihood(theirs, features, position, 16)
    torch.testing.assert_close(ours.log_likelihood(features, position), expected, rtol=1e-5, atol=1e-5)
    # The names in model.pt and checkpoint.pt before the flow was FrEIA's. Adam's state is in the order of the parameters.
    of_block = ["global_scale", "global_offset", "w_perm", "w_perm_inv"]
    of_block += [f"subnet.{layer}.{kind}" for layer in (0, 2) for kind in ("weight", "bias")]
    names = [f"module_list.{block}.{name}" for block in range(8) for name in of_block]
    assert list(ours.state_dict()) == [name for name, _ in ours.named_parameters()] == names


def test_starts_as_freia_does():
    ours = make_flow(6, 16, moved=False).module_list[0]
    theirs = freia_flow(6, 16, blocks=1).module_list[0]
    assert torch.equal(ours.global_scale, theirs.global_scale)
    assert torch.equal(ours.global_offset, theirs.global_offset)
    assert torch.equal(ours.w_perm_inv, ours.w_perm.T)
    # torch's Linear draws weights and biases uniformly from +-1 / sqrt(inputs); 19 = 3 + 16 inputs.
    for layer, inputs in ((ours.subnet[0], 19), (ours.subnet[2], 38)):
        for values in (layer.weight, layer.bias):
            assert values.abs().max() <= 1 / math.sqrt(inputs)
        scaled = (layer.weight.detach().flatten() * math.sqrt(inputs)).numpy()
        assert kstest(scaled, "uniform", args=(-1, 2)).pvalue > 0.01


def test_where_the_fused_blocks_run(monkeypatch):
    monkeypatch.delenv("BGAD_PLAIN", raising=False)
    assert gpu_blocks.available(torch.device("cuda"))
    assert not gpu_blocks.available(torch.device("cpu"))
    monkeypatch.setenv("BGAD_PLAIN", "1")
    assert not gpu_blocks.available(torch.device("cuda"))


# --- change of variables --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [5, 6])
def test_log_determinant_is_that_of_the_jacobian(channels):
    flow = make_flow(channels, 16, blocks=3).double()
    for block in flow.module_list:
        # Stored in single precision, the determinant of a rotation is 1 to 1e-7 only: make it exact for this comparison.
        block.w_perm.data = torch.linalg.qr(block.w_perm.data).Q
        block.w_perm_inv.data = block.w_perm.data.T
    features, position = some_vectors(channels, 4, torch.float64)
    code = code_at(flow, position)
    z, log_det = flow(features, [code])
    for n in range(4):
        jacobian = torch.autograd.functional.jacobian(lambda x, n=n: flow(x[None], [code[n : n + 1]])[0][0], features[n])
        assert log_det[n].item() == pytest.approx(torch.linalg.slogdet(jacobian).logabsdet.item(), abs=1e-10)
    # The log-likelihood is the standard normal's at z, plus that.
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)
    torch.testing.assert_close(flow.log_likelihood(features, position), (normal + log_det) / channels)
    # FrEIA's own inverse undoes the flow.
    back, of_inverse = flow(z, [code], rev=True)
    assert (z - features).abs().max() > 0.1
    torch.testing.assert_close(back, features, rtol=0, atol=1e-10)
    torch.testing.assert_close(of_inverse, -log_det, rtol=0, atol=1e-10)


def test_density_of_two_channels_integrates_to_one():
    flow = make_flow(2, 8, blocks=3).double()
    axis = torch.linspace(-30, 30, 401, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        density = torch.exp(2 * flow.log_likelihood(grid, torch.full((len(grid),), 7)))
    assert density.sum().item() * 0.15**2 == pytest.approx(1, abs=1e-3)


def test_scale_of_a_coupling_is_clamped():
    # Whatever the subnet says, the log-scale of each active channel stays within +-1.9 (8 channels: 4 active).
    flow = make_flow(8, 16, blocks=1, moved=False)
    with torch.no_grad():
        flow.module_list[0].subnet[2].bias[:4] = 1e4
        _, log_det = flow(torch.zeros(1, 8), [torch.zeros(1, 16)])
    assert log_det.item() == pytest.approx(4 * 1.9, abs=1e-5)  # and the global scale starts as 1, with log 0


# --- positions ------------------------------------------------------------------------------------------------------


def test_maps_equal_single_vectors_at_their_positions():
    flow = make_flow(6, blocks=2).requires_grad_(False)
    features = torch.randn(2, HEIGHT * WIDTH, 6, generator=torch.Generator().manual_seed(4))
    maps = flow.log_likelihood_maps(features)
    assert maps.shape == (2, HEIGHT, WIDTH)
    for image in range(2):
        for row in range(HEIGHT):
            for column in range(WIDTH):
                place = row * WIDTH + column
                single = flow.log_likelihood(features[image, place][None], torch.tensor([place]))
                torch.testing.assert_close(maps[image, row, column], single[0], rtol=1e-5, atol=1e-5)


def test_one_vector_is_judged_by_where_it_is():
    flow = make_flow(6)
    maps = flow.log_likelihood_maps(torch.ones(1, HEIGHT * WIDTH, 6))
    assert len(torch.unique(maps)) == HEIGHT * WIDTH


# --- draws ----------------------------------------------------------------------------------------------------------


def test_one_seed_gives_one_network_and_global_generators_stay_as_they_are():
    found = []
    for seed, of_globals in ((4, 1), (4, 2), (5, 2)):
        torch.manual_seed(of_globals)
        np.random.seed(of_globals)
        before = torch.get_rng_state(), np.random.get_state()[1:]
        found.append(make_flow(6, seed=seed, moved=False).state_dict())
        assert torch.equal(torch.get_rng_state(), before[0])
        assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state()[1:], before[1], strict=True))
    first, again, other = found
    assert all(torch.equal(first[name], again[name]) for name in first)
    drawn = [name for name in first if "subnet" in name or "w_perm" in name]
    assert not any(torch.equal(first[name], other[name]) for name in drawn)


@pytest.mark.parametrize("size", [1, 2, 3, 40])
def test_rotations_are_rotations(size):
    rng = frozen_generator("rotations", size)
    for _ in range(20):
        rotation = random_rotation(size, rng)
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(size), atol=1e-12)
        assert np.linalg.det(rotation) == pytest.approx(1, abs=1e-10)


def test_rotations_are_evenly_spread():
    # Under Haar measure on SO(3) every entry is uniform in -1..1 (Archimedes), the trace has mean 0 and variance 1, and
    # the rotation's angle a has density (1 - cos a) / pi on 0..pi.
    rng = frozen_generator("spread")
    rotations = np.stack([random_rotation(3, rng) for _ in range(4000)])
    for row in range(3):
        for column in range(3):
            assert kstest(rotations[:, row, column], "uniform", args=(-1, 2)).pvalue > 0.001, (row, column)
    traces = np.trace(rotations, axis1=1, axis2=2)
    assert abs(traces.mean()) < 4 / math.sqrt(4000)
    assert traces.var() == pytest.approx(1, abs=0.1)
    angles = np.arccos(np.clip((traces - 1) / 2, -1, 1))
    assert kstest(angles, lambda a: (a - np.sin(a)) / np.pi).pvalue > 0.001


def test_rotations_of_a_seed_never_change():
    # Published results depend on this draw: a failure here means that every network is another one.
    rotation = random_rotation(4, frozen_generator("rotation", "mvtec", "bottle", 0))
    expected = [
        [0.3300952, 0.5646750, -0.1088680, -0.7485500],
        [-0.6768929, 0.5022159, -0.5152471, 0.1552918],
        [0.3431269, -0.4003911, -0.8492410, -0.0272141],
        [-0.5613530, -0.5182743, 0.0381809, -0.6440627],
    ]
    np.testing.assert_allclose(rotation, expected, rtol=0, atol=1e-6)


def test_rotation_is_the_gram_schmidt_basis_of_the_draw():
    # R with a positive diagonal makes QR unique, so LAPACK's own signs cannot show.
    flipped = 0
    for seed in range(6):
        columns = frozen_generator("draw", seed).standard_normal((5, 5)).T
        basis = []
        for column in columns:
            for unit in basis:
                column = column - (column @ unit) * unit
            basis.append(column / np.linalg.norm(column))
        expected = np.stack(basis, axis=1)
        if np.linalg.det(expected) < 0:
            expected[:, 0] *= -1
            flipped += 1
        np.testing.assert_allclose(random_rotation(5, frozen_generator("draw", seed)), expected, atol=1e-10)
    assert 0 < flipped < 6  # both kinds occurred
