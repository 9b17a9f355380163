"""Penultimate features: the input of a network's last linear layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from slnlab.errors import ConfigError
from slnlab.streams import seeded


class Penultimate:
    """The features of the latest forward pass, see `recording`."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._latest: Tensor | None = None

    def _note(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._latest = inputs[0]

    def take(self, batch: int) -> Tensor:
        """Return the features (B, D) of the latest pass with their gradient, and forget them.

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
        return found


@contextmanager
def recording(network: nn.Module) -> Iterator[Penultimate]:
    """Record the input of the linear layer that runs last in each forward pass, inside the block.

    This fits every network that ends with a `torch.nn.Linear`, whatever its name.
    """
    penultimate = Penultimate(type(network).__name__)
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    handles = [layer.register_forward_pre_hook(penultimate._note) for layer in layers]
    try:
        yield penultimate
    finally:
        for handle in handles:
            handle.remove()


def logits_and_features(network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """One pass: logits (B, C) and features (B, D).

    Raises:
        ConfigError: see `Penultimate.take`.
    """
    with recording(network) as penultimate:
        logits: Tensor = network(images)
        return logits, penultimate.take(len(images))


def last_layer(network: nn.Module) -> nn.Linear:
    """The network's `torch.nn.Linear` that was made last, which must be its last layer.

    Raises:
        ConfigError: the network has none.
    """
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise ConfigError(f"model: {type(network).__name__} has no torch.nn.Linear as its last layer")
    return layers[-1]


def head_on(network: nn.Module, seed: int, outputs: int | None = None) -> nn.Linear:
    """A new linear layer, features (B, D) → (B, outputs), with the data type of the network's own last one.

    Args:
        network: see `last_layer`.
        seed: seed of the initialisation, which is PyTorch's default.
        outputs: number of outputs ≥ 1; None: as many as that layer has.

    Raises:
        ConfigError: see `last_layer`.
    """
    with seeded(seed):
        last = last_layer(network)
        return nn.Linear(last.in_features, outputs or last.out_features, dtype=last.weight.dtype)
