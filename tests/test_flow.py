"""The flow against FrEIA 0.2's blocks, against its own Jacobian, and as a density; the rotations against Haar measure."""

import math

import numpy as np
import pytest
import torch
from flows import moved_away
from FrEIA.framework import SequenceINN
from FrEIA.modules import AllInOneBlock
from scipy.stats import kstest
from torch import nn

from bgad.model.flow import ConditionalFlow, random_rotation
from bgad.model.position import sincos_2d
from bgad.randomness import frozen_generator, torch_generator

HEIGHT, WIDTH = 3, 5


def make_flow(channels, position_channels=128, blocks=8, clamp=1.9, seed=0, moved=True):
    flow = ConditionalFlow(
        channels,
        HEIGHT,
        WIDTH,
        blocks,
        position_channels,
        clamp,
        torch_generator("flow test", seed),
        frozen_generator("flow test", seed),
    )
    return moved_away(flow) if moved else flow


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


def through(flow, features, position):
    """z and the log-determinant, block by block."""
    log_det, code = 0, torch.cat([flow.columns[position % WIDTH], flow.rows[position // WIDTH]], dim=1)
    for block in flow.module_list:
        features, of_block = block(features, code)
        log_det = log_det + of_block
    return features, log_det


# --- FrEIA ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "position_channels"), [(7, 128), (24, 128), (2, 8), (3, 8)])
def test_equals_freia_with_the_same_parameters(channels, position_channels):
    ours, theirs = make_flow(channels, position_channels), freia_flow(channels, position_channels)
    theirs.load_state_dict(ours.state_dict())  # strict: the same names and shapes
    features, position = some_vectors(channels)
    expected = freia_log_likelihood(theirs, features, position, position_channels)
    torch.testing.assert_close(ours.log_likelihood(features, position), expected, rtol=1e-5, atol=1e-5)
    assert expected.std() > 0.01  # not all the same, where anything would agree


@pytest.mark.parametrize("channels", [7, 8])
def test_a_freia_checkpoint_loads(channels):
    theirs, ours = moved_away(freia_flow(channels, 16)), make_flow(channels, 16, seed=1)
    ours.load_state_dict(theirs.state_dict())
    features, position = some_vectors(channels)
    expected = freia_log_likelihood(theirs, features, position, 16)
    torch.testing.assert_close(ours.log_likelihood(features, position), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels", [7, 8])
def test_gradients_equal_freias(channels):
    ours, theirs = make_flow(channels, 16).double(), freia_flow(channels, 16).double()
    theirs.load_state_dict(ours.state_dict())
    features, position = some_vectors(channels, dtype=torch.float64)
    ours.log_likelihood(features, position).mean().backward()
    freia_log_likelihood(theirs, features, position, 16).mean().backward()
    expected = {name: p.grad for name, p in theirs.named_parameters() if p.requires_grad}
    gradients = {name: p.grad for name, p in ours.named_parameters() if p.requires_grad}
    assert gradients.keys() == expected.keys()
    assert len(gradients) == 8 * 6  # scale, offset, and two weights with their biases; the rotation is fixed
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-9, msg=name)
        assert gradient.abs().max() > 0, name


def test_starts_as_freia_does():
    ours = make_flow(6, 16, moved=False).module_list[0]
    theirs = freia_flow(6, 16, blocks=1).module_list[0]
    torch.testing.assert_close(ours.global_scale, theirs.global_scale)
    assert torch.equal(ours.global_offset, theirs.global_offset)
    # torch's Linear draws weights and biases evenly from +-1 / sqrt(inputs); 19 = 3 + 16 inputs.
    for layer, inputs in ((ours.subnet[0], 19), (ours.subnet[2], 38)):
        for values in (layer.weight, layer.bias):
            assert values.abs().max() <= 1 / math.sqrt(inputs)
        scaled = (layer.weight.detach().flatten() * math.sqrt(inputs)).numpy()
        assert kstest(scaled, "uniform", args=(-1, 2)).pvalue > 0.01


# --- change of variables --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [5, 6])
def test_log_determinant_is_that_of_the_jacobian(channels):
    flow = make_flow(channels, 16, blocks=3).double()
    for block in flow.module_list:
        # Stored in single precision, the determinant of a rotation is 1 to 1e-7 only: make it exact for this comparison.
        block.w_perm.data = torch.linalg.qr(block.w_perm.data).Q
    features, position = some_vectors(channels, 4, torch.float64)
    z, log_det = through(flow, features, position)
    for n in range(4):
        jacobian = torch.autograd.functional.jacobian(
            lambda x, n=n: through(flow, x[None], position[n : n + 1])[0][0], features[n]
        )
        assert log_det[n].item() == pytest.approx(torch.linalg.slogdet(jacobian).logabsdet.item(), abs=1e-10)
    # The log-likelihood is the standard normal's at z, plus that.
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)
    torch.testing.assert_close(flow.log_likelihood(features, position), (normal + log_det) / channels)


def test_density_of_two_channels_integrates_to_one():
    flow = make_flow(2, 8, blocks=3).double()
    axis = torch.linspace(-30, 30, 401, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        density = torch.exp(2 * flow.log_likelihood(grid, torch.full((len(grid),), 7)))
    assert density.sum().item() * 0.15**2 == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("channels", [5, 6])
def test_inverse_undoes_a_block_and_its_log_determinant(channels):
    block = make_flow(channels, 16, blocks=1).double().module_list[0]
    features, _ = some_vectors(channels, dtype=torch.float64)
    code = torch.randn(40, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    y, log_det = block(features, code)
    back, of_inverse = block.inverse(y, code)
    assert (y - features).abs().max() > 0.1
    torch.testing.assert_close(back, features, rtol=0, atol=1e-6)  # the rotation and its inverse are single precision
    torch.testing.assert_close(of_inverse, -log_det, rtol=0, atol=1e-6)


def test_scale_of_a_coupling_is_clamped():
    # Whatever the subnet says, the log-scale of each active channel stays within +-1.9 (8 channels: 4 active).
    block = make_flow(8, 16, blocks=1, moved=False).module_list[0]
    with torch.no_grad():
        block.subnet[2].bias[:4] = 1e4
        _, log_det = block(torch.zeros(1, 8), torch.zeros(1, 16))
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


def test_one_seed_gives_one_network_whatever_the_global_generators():
    torch.manual_seed(1)
    np.random.seed(1)
    first = make_flow(6, seed=4, moved=False).state_dict()
    torch.manual_seed(2)
    np.random.seed(2)
    again, other = make_flow(6, seed=4, moved=False).state_dict(), make_flow(6, seed=5, moved=False).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    drawn = [name for name in first if "subnet" in name or "w_perm" in name]
    assert not any(torch.equal(first[name], other[name]) for name in drawn)
    # ... and making it draws nothing from them.
    assert torch.initial_seed() == 2
    torch.manual_seed(2)
    state = torch.get_rng_state()
    make_flow(6)
    assert torch.equal(torch.get_rng_state(), state)


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
    # Published figures rest on this draw: a failure here means that every network is another one.
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
    assert 0 < flipped < 6  # both kinds were there
