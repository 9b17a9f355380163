"""Sharpness-aware minimisation (Foret, Kleiner, Mobahi & Neyshabur, 2021), beside any loss."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import AdamW, Optimizer

from slnlab.errors import ConfigError, check_choice

Decayed = Literal["perturbed", "own"]


class SharpnessAware:
    """Replaces g, the gradient at θ, by the gradient at θ + ρ·g/‖g‖ (equation 2 of the paper).

    Each batch takes two passes, so twice the time. The norm is over all parameters together. Batch norm uses the
    batch's statistics in both passes and moves its running statistics in the first alone.

    In several processes g is the gradient of the global batch, so a run does not depend on their number. (The authors
    perturb each device by the gradient of its own part.)

    Args:
        rho: radius ρ, finite and > 0. The paper has 0.1 for label noise (0.05 at 80 %), otherwise 0.05.
        decay_in_ascent: True: g includes the weight decay, as in the authors' code; False: only the step has it,
            as in common PyTorch versions.
        decay_in_step: the weights that decay in the step. "perturbed": θ + ρ·g/‖g‖, as in the authors' code, where
            the decay is a term of the loss; "own": θ, as in common PyTorch versions. The decay of AdamW is no term of
            the loss, so neither option moves it.

    Raises:
        ConfigError: rho is not positive and finite, or decay_in_step has another value.
    """

    def __init__(self, rho: float, decay_in_ascent: bool = True, decay_in_step: Decayed = "perturbed") -> None:
        if not 0 < rho < float("inf"):
            raise ConfigError(f"sam.rho={rho}: must be finite and > 0")
        check_choice("sam.decay_in_step", decay_in_step, Decayed)
        self.rho, self.decay_in_ascent, self.decay_in_step = rho, decay_in_ascent, decay_in_step

    @contextmanager
    def perturbed(self, network: nn.Module, optimizer: Optimizer) -> Iterator[None]:
        """Inside the block the parameters are θ + ρ·g/(‖g‖ + 1e-12), g the gradients at its beginning.

        Afterwards the parameters are θ again, bit for bit, and the gradients are those of the block. For
        decay_in_step = "perturbed", decay · ρ·g/(‖g‖ + 1e-12) is added to them, as the optimiser adds decay · θ.

        Args:
            network: its batch norms keep their running statistics.
            optimizer: its parameters are perturbed, with its weight decay.
        """
        parameters: list[Tensor] = []
        directions: list[Tensor] = []
        decays: list[float] = []
        for group in optimizer.param_groups:
            decoupled = group.get("decoupled_weight_decay", isinstance(optimizer, AdamW))  # no key before torch 2.7
            decay = 0.0 if decoupled else group.get("weight_decay", 0.0)
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
    """Batch norms in train mode normalise by the batch inside the block and keep their running statistics."""
    kept = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
    for module in kept:
        module.track_running_stats = False
    try:
        yield
    finally:
        for module in kept:
            module.track_running_stats = True
