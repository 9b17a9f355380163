"""The disagreement of two networks (JoCoR, Wei et al., 2020)."""

from __future__ import annotations

from torch import Tensor, log_softmax


def symmetric_divergence(logits: Tensor, logits_2: Tensor) -> Tensor:
    """Two logits (B, C) → KL(S¹‖S²) + KL(S²‖S¹) = Σ_c (S¹_c − S²_c)(log S¹_c − log S²_c) of every sample (B,), ≥ 0."""
    one, two = (log_softmax(each.float(), 1) for each in (logits, logits_2))
    return ((one.exp() - two.exp()) * (one - two)).sum(1)
