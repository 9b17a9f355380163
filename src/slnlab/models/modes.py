"""Evaluation or training mode inside a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from torch import nn


def evaluating(network: nn.Module) -> AbstractContextManager[None]:
    """Put a network into eval mode inside a `with` block; afterwards every submodule has its former mode.

    `network.train()` would also unfreeze a batch norm in `.eval()`.
    """
    return _in_mode(network, training=False)


def training(network: nn.Module) -> AbstractContextManager[None]:
    """Put a network into train mode inside a `with` block, likewise."""
    return _in_mode(network, training=True)


@contextmanager
def _in_mode(network: nn.Module, training: bool) -> Iterator[None]:
    modes = [(module, module.training) for module in network.modules()]
    network.train(training)
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
