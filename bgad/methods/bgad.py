"""BGAD as a method, with its two ablations: the cells' methods bgad, bgad-wo and nf (docs/protocol.md).

The model is a list of conditional flows, one per level. The training loop is bgad/training/train.py.
"""

from collections.abc import Iterator, Sequence
from dataclasses import astuple

import numpy as np
import torch
from torch import Tensor

from bgad.anomalies.entries import AnomalyEntries, anomaly_entries
from bgad.anomalies.synthetic import with_defects
from bgad.config.settings import Recipe
from bgad.errors import FileError
from bgad.features.backbone import load_backbone
from bgad.methods import Images, Setting
from bgad.model.flow import ConditionalFlow
from bgad.randomness import frozen_generator, on_device, torch_generator
from bgad.training.train import Epochs, train


def fit(images: Images, rng: torch.Generator, epochs: Epochs) -> list[ConditionalFlow]:
    """Trains a flow for each level, from the last checkpoint if there is one."""
    setting = images.setting
    assert setting is not None  # the runner gives it
    cell, recipe = setting.cell, setting.recipe
    # The initial network depends on the seed only, so methods and k are compared from the same start.
    flows = build_flows(
        recipe,
        [level.shape[3] for level in images.levels],
        [level.shape[1] for level in images.levels],
        torch_generator("flow", cell.dataset, cell.category, cell.seed),
        frozen_generator("rotation", cell.dataset, cell.category, cell.seed),
    )
    flows = [flow.to(setting.device) for flow in flows]
    state = epochs.resumed()
    normal = [level.flatten(1, 2) for level in images.levels]
    # The first meta epoch has no anomalies.
    passes = recipe.schedule.sub_epochs * state["epoch"] if state else 0
    entries = _entries(images.known, setting, passes) if images.known else iter(())
    train(recipe, cell.method, flows, normal, entries, on_device(rng, setting.device), epochs, state)
    return flows


@torch.inference_mode()
def score(flows: list[ConditionalFlow], images: Images) -> list[Tensor]:
    """l = logp / C at every position, (N, h, w) a level."""
    device = next(flows[0].parameters()).device
    return [flow.log_likelihood_maps(level.flatten(1, 2).to(device)) for flow, level in zip(flows, images.levels, strict=True)]


def save(flows: list[ConditionalFlow]) -> list[dict[str, Tensor]]:
    return [{key: value.cpu() for key, value in flow.state_dict().items()} for flow in flows]


def restore(
    saved: list[dict[str, Tensor]], recipe: Recipe, channels: Sequence[int], sides: Sequence[int], device: torch.device
) -> list[ConditionalFlow]:
    """The flows of ``save``; FileError if they do not fit the recipe, before any memory is allocated for them."""
    try:
        if not all(_fits(state, recipe, count) for state, count in zip(saved, channels, strict=True)):
            raise ValueError("a different number or size of blocks")
        # The draws are overwritten.
        flows = build_flows(recipe, channels, sides, torch_generator("model"), frozen_generator("model"))
        for flow, state in zip(flows, saved, strict=True):
            flow.load_state_dict(state)
            flow.to(device)
    except Exception as error:  # of many kinds, depending on what the file has instead of a state
        raise FileError("its flows do not fit its recipe") from error
    return flows


def build_flows(
    recipe: Recipe, channels: Sequence[int], sides: Sequence[int], torch_rng: torch.Generator, frozen_rng: np.random.RandomState
) -> list[ConditionalFlow]:
    """One flow per level, for square maps of ``sides`` with ``channels``."""
    settings = recipe.flow
    return [
        ConditionalFlow(count, side, side, settings.blocks, settings.position_channels, settings.clamp, torch_rng, frozen_rng)
        for count, side in zip(channels, sides, strict=True)
    ]


def _entries(known: Images, setting: Setting, passes: int) -> Iterator[AnomalyEntries]:
    assert known.masks is not None  # known anomalies have masks
    real = with_defects([level.flatten(1, 2) for level in known.levels], known.masks).to(setting.device)
    return anomaly_entries(
        setting.recipe,
        astuple(setting.cell),
        setting.known,
        real,
        setting.weights_sha256,
        setting.pools,
        setting.maker,
        lambda: load_backbone(setting.recipe.backbone, setting.device, setting.weights),
        setting.workers,
        passes,
    )


def _fits(state: dict[str, Tensor], recipe: Recipe, channels: int) -> bool:
    """Whether a flow's state has the recipe's blocks and width."""
    first = state.get("module_list.0.subnet.0.weight")
    inputs = channels - channels // 2 + recipe.flow.position_channels
    blocks = {key.split(".")[1] for key in state if key.startswith("module_list.")}
    return len(blocks) == recipe.flow.blocks and first is not None and first.shape == (2 * inputs, inputs)
