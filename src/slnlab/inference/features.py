"""Penultimate features: the input of a network's last linear layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from slnlab.errors import ConfigError
from slnlab.methods.ensemble import Ensemble


class Penultimate:
    """The features of the latest forward pass, see `recording`."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._latest: Tensor | None = None

    def _note(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._latest = inputs[0]

    def take(self, batch: int) -> Tensor:
        """Return the features (B, D) of the latest pass, and forget them.

        Args:
            batch: B, the number of images in that pass.

        Raises:
            ConfigError: no linear layer ran, or its input is not one vector for each image.
        """
        found, self._latest = self._latest, None
        if found is None:
            raise ConfigError(f"features: {self._kind} has no torch.nn.Linear, whose input the features are")
        if found.ndim != 2 or len(found) != batch:
            shape = tuple(found.shape)
            raise ConfigError(
                f"features: the last linear layer of {self._kind} has the input {shape}; ({batch}, D) is needed, one "
                "vector for each image"
            )
        return found.detach()


@contextmanager
def recording(network: nn.Module) -> Iterator[Penultimate]:
    """Record the input of the linear layer that runs last in each forward pass, inside the block.

    This fits every network that ends with a `torch.nn.Linear`, whatever its name.

    Raises:
        ConfigError: the network is an ensemble of several networks.
    """
    if isinstance(network, Ensemble):
        raise ConfigError("features: an ensemble has those of each member; choose one, e.g. weights=network")
    penultimate = Penultimate(type(network).__name__)
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    handles = [layer.register_forward_pre_hook(penultimate._note) for layer in layers]
    try:
        yield penultimate
    finally:
        for handle in handles:
            handle.remove()


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
