"""Several networks of one shape as one: the layers' weights are stacked, and batched products compute all at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

STACKABLE = (nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Dropout)
"""Layers that can be stacked; dropout only with a share of 0."""


def why_not_stacked(network: nn.Module) -> str | None:
    """The reason why networks like this one cannot be stacked; None: they can.

    A network that can has the attribute `layers`: its modules in the order in which `forward` applies them.
    """
    name = type(network).__name__
    layers = getattr(network, "layers", None)
    if layers is None:
        return f"{name} does not list its `layers`"
    for layer in layers:
        if type(layer) not in STACKABLE:
            return f"{name} has a {type(layer).__name__}, which cannot be stacked"
        if isinstance(layer, nn.Dropout) and layer.p > 0:
            return "dropout draws random numbers in each network's own order"
        if isinstance(layer, nn.BatchNorm1d) and (layer.momentum is None or not layer.affine):
            return f"{name} has a BatchNorm1d without momentum or weights"
    return None


class Stack:
    """Copies of K networks as tensors (K, …), by the names of their state.

    Vectors are columns: an input is (K, D, B), the output (K, C, B). Sums over classes then add whole rows of memory.

    Args:
        networks: of one shape, see `why_not_stacked`.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        first = networks[0]
        names = {module: name for name, module in first.named_modules()}
        self.layers: list[tuple[str, Any]] = [(names[layer], layer) for layer in first.layers]  # type: ignore[union-attr]
        states = [network.state_dict() for network in networks]
        self.state = {name: torch.stack([state[name] for state in states]) for name in states[0]}
        self.parameters = [self.state[name].requires_grad_() for name, _ in first.named_parameters()]

    def __call__(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Outputs (K, C, B) for inputs (K, D, B), or for inputs (D, B) that all networks share.

        Args:
            inputs: float32.
            training: batch norm uses the statistics of the batch, and updates the running ones.
        """
        values = inputs
        for name, layer in self.layers:
            if isinstance(layer, nn.Linear):
                values = self._linear(name, values)
            elif isinstance(layer, nn.BatchNorm1d):
                values = self._normalised(name, layer, values, training)
            elif isinstance(layer, nn.ReLU):
                values = values.relu()
        return values

    def _linear(self, name: str, values: Tensor) -> Tensor:
        weight, bias = self.state[f"{name}.weight"], self.state.get(f"{name}.bias")
        if values.ndim == 2:
            out = (weight.flatten(0, 1) @ values).view(*weight.shape[:2], values.shape[1])
        else:
            out = torch.bmm(weight, values)
        return out if bias is None else out + bias.unsqueeze(2)

    def _normalised(self, name: str, layer: nn.BatchNorm1d, values: Tensor, training: bool) -> Tensor:
        weight, bias, mean, variance = (
            self.state[f"{name}.{part}"].flatten() for part in ("weight", "bias", "running_mean", "running_var")
        )
        if training:
            self.state[f"{name}.num_batches_tracked"] += 1
        channels = values.reshape(1, -1, values.shape[-1])  # one sample, K·D channels, B positions
        assert layer.momentum is not None
        return batch_norm(channels, mean, variance, weight, bias, training, layer.momentum, layer.eps).view_as(values)

    @torch.no_grad()
    def copy_to(self, networks: Sequence[nn.Module]) -> None:
        """Write the state back into the networks, in place."""
        for number, network in enumerate(networks):
            for name, tensor in network.state_dict().items():
                tensor.copy_(self.state[name][number])
