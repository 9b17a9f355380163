"""Penultimate features of inputs, for analysis."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from slnlab.errors import ConfigError
from slnlab.methods.ensemble import Ensemble
from slnlab.models import features
from slnlab.models.features import Penultimate


@contextmanager
def recording(network: nn.Module) -> Iterator[Penultimate]:
    """`slnlab.models.features.recording` of a judged network.

    Raises:
        ConfigError: the network is an ensemble of several networks.
    """
    if isinstance(network, Ensemble):
        raise ConfigError("features: an ensemble has those of each member; choose one, e.g. weights=network")
    with features.recording(network) as penultimate:
        yield penultimate


@torch.inference_mode()
def features_of(network: nn.Module, images: Tensor, batch_size: int) -> Tensor:
    """Return the features (N, D) of inputs (N, …) of a network, on the CPU.

    Args:
        network: in eval mode, on any device.
        images: N ≥ 1 inputs, e.g. of `slnlab.inference.images.run_images`.
        batch_size: images per pass, ≥ 1.

    Raises:
        ConfigError: see `recording` and `Penultimate.take`.
    """
    device = next(network.parameters()).device
    found = []
    with recording(network) as penultimate:
        for batch in images.split(batch_size):
            network(batch.to(device))
            found.append(penultimate.take(len(batch)).float().cpu())
    return torch.cat(found)
