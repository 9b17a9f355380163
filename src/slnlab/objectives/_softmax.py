"""The softmax of the objectives."""

from __future__ import annotations

from torch import Tensor

from slnlab.losses import cross_entropy


def softmax(logits: Tensor) -> Tensor:
    """Logits (B, C) → S (B, C), float64 for float64 logits, else float32, because log S needs the digits."""
    return (-cross_entropy(logits)).exp()
