"""The confidence penalty (Pereyra, Tucker, Chorowski, Kaiser & Hinton, 2017)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from slnlab.data.batches import Batch
from slnlab.methods.single_network import SingleNetwork
from slnlab.objectives import confidence_penalty
from slnlab.schema.kinds import NonNegative


class ConfidencePenalty(SingleNetwork):
    """ℓ_i + β·Σ_c S_c log S_c: the loss minus β times the entropy of the prediction (equation 2 of the paper).

    ℓ is any class-wise loss.

    Args:
        network: see `SingleNetwork`.
        strength: weight β of the entropy, ≥ 0.
        options: see `SingleNetwork`.
    """

    def __init__(self, network: nn.Module, *, strength: NonNegative, **options: Any) -> None:
        super().__init__(network, **options)
        self.strength = strength

    def objective(self, batch: Batch, logits: Tensor, targets: Tensor) -> Tensor:
        return super().objective(batch, logits, targets) + self.strength * confidence_penalty(logits)
