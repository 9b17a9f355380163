"""Two kinds of SGD noise, the paper's comparison for SLN (section 3.1, equations 1 and 2; figure 5)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from slnlab.data.batches import Batch
from slnlab.methods.single_network import SingleNetwork
from slnlab.schema.kinds import NonNegative


class ParameterNoise(SingleNetwork):
    """Equation 1: σ·z is added to the gradient of every parameter, z ~ N(0, I) anew at every step.

    The paper adds it to the gradient of one sample. The mean of B independent noises has the standard deviation
    σ/√B, so one draw per step with that deviation suffices.

    Args:
        network: see `SingleNetwork`.
        gradient_sigma: standard deviation σ ≥ 0; the paper's figure has 0.001, 0.005, 0.01.
        per_sample: True: σ applies to the gradient of one sample; False: to that of the batch.
        options: see `SingleNetwork`.
    """

    def __init__(
        self, network: nn.Module, *, gradient_sigma: NonNegative, per_sample: bool = True, **options: Any
    ) -> None:
        super().__init__(network, **options)
        self.gradient_sigma, self.per_sample = gradient_sigma, per_sample

    def before_step(self, batch: Batch) -> None:
        gradients = [parameter.grad for parameter in self.network.parameters() if parameter.grad is not None]
        sigma = self.gradient_sigma / (math.sqrt(batch.shard.total) if self.per_sample else 1.0)
        # All processes have the same gradient and draw the same noise.
        drawn = torch.randn(
            sum(map(torch.numel, gradients)),
            generator=self.streams("parameter noise", self.steps),
            device=batch.index.device,
        )
        parts = drawn.split([gradient.numel() for gradient in gradients])
        noise = [part.view(gradient.shape).to(gradient) for part, gradient in zip(parts, gradients, strict=True)]
        torch._foreach_add_(gradients, noise, alpha=sigma)


class OutputNoise(SingleNetwork):
    """Equation 2: σ·z is added to the gradient at the logits, z ~ N(0, I_C) anew for every sample at every step.

    As a loss, ℓ_i + ⟨σ·z_i, f_i⟩. Unlike SLN's, this noise does not depend on the prediction.

    Args:
        network: see `SingleNetwork`.
        output_sigma: standard deviation σ ≥ 0; the paper's figure has 0.001, 0.005, 0.01.
        options: see `SingleNetwork`.
    """

    def __init__(self, network: nn.Module, *, output_sigma: NonNegative, **options: Any) -> None:
        super().__init__(network, **options)
        self.output_sigma = output_sigma

    def objective(self, batch: Batch, logits: Tensor, targets: Tensor) -> Tensor:
        noise = self.output_sigma * self.normal("output noise", batch)
        return super().objective(batch, logits, targets) + (noise * logits).sum(1)
