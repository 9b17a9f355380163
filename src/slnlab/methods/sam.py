"""Sharpness-aware minimisation (Foret, Kleiner, Mobahi & Neyshabur, 2021), beside any loss."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from slnlab.errors import ConfigError

Decayed = Literal["perturbed", "own"]


class SharpnessAware:
    """The gradient at θ + ρ·g/‖g‖ in the place of g, the gradient at θ (equation 2 of the paper).

    Two passes over each batch, so twice the time. The norm is over all parameters together. Batch norm uses the
    batch's statistics in both passes and moves its running ones in the first alone.

    In several processes the gradient is that of the global batch, so that a run does not depend on their number; the
    authors perturb each device by the gradient of its own part, which is another method for each number of devices.

    Args:
        rho: the radius ρ, finite and > 0. Label noise: .1, at 80 % .05; otherwise .05 (the paper).
        decay_in_ascent: g includes the weight decay, as in the authors' code; False: it is a part of the step only,
            as in common PyTorch versions.
        decay_in_step: the weights whose decay is a part of the step. "perturbed": those at θ + ρ·g/‖g‖, as in the
            authors' code, where the decay is a term of the loss; "own": θ, as in common PyTorch versions.

    Raises:
        ConfigError: rho is not positive and finite.
    """

    def __init__(self, rho: float, decay_in_ascent: bool = True, decay_in_step: Decayed = "perturbed") -> None:
        if not 0 < rho < float("inf"):
            raise ConfigError(f"sam.rho={rho}: must be finite and > 0")
        self.rho, self.decay_in_ascent, self.decay_in_step = rho, decay_in_ascent, decay_in_step

    @contextmanager
    def at_the_worst(self, network: nn.Module, optimizer: Optimizer) -> Iterator[None]:
        """Inside the block the parameters are θ + ρ·g/(‖g‖ + 1e-12); g is the gradients at its beginning.

        Afterwards they are θ again, bit for bit. The gradients are what the block has made of them; with the decay of
        the perturbed weights in the step they have decay · ρ·g/(‖g‖ + 1e-12) added, as the optimiser adds decay · θ.

        Args:
            network: whose batch norms keep their running statistics.
            optimizer: whose parameters are moved, and whose weight decay counts.
        """
        parameters: list[Tensor] = []
        directions: list[Tensor] = []
        decays: list[float] = []
        for group in optimizer.param_groups:
            decay = group.get("weight_decay", 0.0)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameters.append(parameter)
                    decays.append(decay)
                    in_ascent = decay if self.decay_in_ascent else 0.0
                    directions.append(parameter.grad + in_ascent * parameter.detach())
        before = [parameter.detach().clone() for parameter in parameters]
        norm = torch.stack(torch._foreach_norm(directions)).norm()
        with torch.no_grad():
            moves = [direction * (self.rho / (norm + 1e-12)) for direction in directions]
            torch._foreach_add_(parameters, moves)
        try:
            with running_statistics_kept(network):
                yield
            if self.decay_in_step == "perturbed":
                for parameter, move, decay in zip(parameters, moves, decays, strict=True):
                    if parameter.grad is not None:
                        parameter.grad.add_(move, alpha=decay)
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
