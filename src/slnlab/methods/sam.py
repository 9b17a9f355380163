"""Sharpness-aware minimisation (Foret, Kleiner, Mobahi & Neyshabur, 2021), beside any loss."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from slnlab.errors import ConfigError


class SharpnessAware:
    """The gradient at θ + ρ·g/‖g‖ in the place of g, the gradient at θ (equation 2 of the paper).

    Two passes over each batch, so twice the time. The norm is over all parameters together. Batch norm uses the
    batch's statistics in both passes and moves its running ones in the first alone.

    In several processes the gradient is that of the global batch, so that a run does not depend on their number; the
    authors perturb each device by the gradient of its own part, which is another method for each number of devices.

    Args:
        rho: the radius ρ, finite and > 0. Label noise: .1, at 80 % .05; otherwise .05 (the paper).
        decay_in_ascent: g includes the weight decay, as in the authors' code; False: it is a part of the step only,
            as in common PyTorch versions. (In the step it is that of θ, theirs that of the worst point.)

    Raises:
        ConfigError: rho is not positive and finite.
    """

    def __init__(self, rho: float, decay_in_ascent: bool = True) -> None:
        if not 0 < rho < float("inf"):
            raise ConfigError(f"sam.rho={rho}: must be finite and > 0")
        self.rho, self.decay_in_ascent = rho, decay_in_ascent

    @contextmanager
    def at_the_worst(self, network: nn.Module, optimizer: Optimizer) -> Iterator[None]:
        """Inside the block the parameters are θ + ρ·g/(‖g‖ + 1e-12); g is the gradients at its beginning.

        Afterwards they are θ again, bit for bit, and the gradients are whatever the block has made of them.

        Args:
            network: whose batch norms keep their running statistics.
            optimizer: whose parameters are moved, and whose weight decay counts.
        """
        parameters: list[Tensor] = []
        directions: list[Tensor] = []
        for group in optimizer.param_groups:
            decay = group.get("weight_decay", 0.0) if self.decay_in_ascent else 0.0
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameters.append(parameter)
                    directions.append(parameter.grad + decay * parameter.detach())
        before = [parameter.detach().clone() for parameter in parameters]
        norm = torch.stack(torch._foreach_norm(directions)).norm()
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter.add_(direction * (self.rho / (norm + 1e-12)))
        try:
            with running_statistics_kept(network):
                yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(parameters, before)


@contextmanager
def running_statistics_kept(network: nn.Module) -> Iterator[None]:
    """Batch norms that are training normalise by the batch inside the block, and their running statistics stay."""
    kept = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
    for module in kept:
        module.track_running_stats = False
    try:
        yield
    finally:
        for module in kept:
            module.track_running_stats = True
