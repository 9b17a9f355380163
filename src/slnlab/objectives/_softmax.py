"""The softmax that objectives are made of."""

from __future__ import annotations

from torch import Tensor

from slnlab.losses import cross_entropy


def softmax(logits: Tensor) -> Tensor:
    """S (B, C) in float32, or float64 if the logits are; half precision has too few digits to take logarithms of."""
    return (-cross_entropy(logits)).exp()
