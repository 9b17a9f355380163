"""One network, a class-wise loss, and targets that may be perturbed: CE, SLN, SLN-MO, SLN-MO-LC."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from slnlab.data.datamodule import Batch
from slnlab.losses import expected_loss
from slnlab.methods.base import Method
from slnlab.sln import StochasticLabelNoise


class SingleNetwork(Method):
    """Mini-batch descent on ⟨t + σ·z, L(S)⟩, the paper's equation (3) for any class-wise loss L.

    With σ = 0 this is the loss itself: `method=ce`. The momentum model and label correction are callbacks; label
    correction sets `sln.sigma` to 0 and rewrites rows of the sample table, and nothing here knows of it.

    Args:
        network: images (B, channels, H, W) → logits (B, C).
        class_losses: logits (B, C) → the loss each class would incur (B, C).
        sigma: standard deviation of the stochastic label noise, ≥ 0.
        options: see `Method`.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        class_losses: Callable[[Tensor], Tensor],
        sigma: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__({"network": network}, **options)
        self.class_losses = class_losses
        self.sln = StochasticLabelNoise(sigma)

    def loss(self, batch: Batch) -> Tensor:
        logits = self.network(batch.image)
        self.observe(batch.index, logits)
        targets = self.table.targets(batch.index)
        if self.sln.sigma:
            targets = self.sln(targets, noise=self.normal("SLN", batch))
        return batch.mean(expected_loss(targets, self.class_losses(logits)))
