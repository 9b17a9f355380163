"""The confidence penalty (Pereyra, Tucker, Chorowski, Kaiser & Hinton, 2017)."""

from __future__ import annotations

from torch import Tensor

from slnlab.losses import cross_entropy


def confidence_penalty(logits: Tensor) -> Tensor:
    """Negative entropy Σ_c S_c log S_c of each prediction: logits (B, C) → (B,) in [−log C, 0]; equation 2."""
    log_softmax = -cross_entropy(logits)
    return (log_softmax.exp() * log_softmax).sum(1)
