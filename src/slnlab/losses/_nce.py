"""Normalised cross entropy (Ma et al., 2020)."""

from __future__ import annotations

from torch import Tensor

from slnlab.losses._cross_entropy import cross_entropy


def nce(logits: Tensor) -> Tensor:
    """Normalised cross entropy of every class, L_c = log S_c / Σ_k log S_k with S = softmax(logits).

    The loss is the share of class c in the cross entropy of all classes. Every row sums to 1, so the loss is robust to
    symmetric noise. Ma et al. (2020), equation 7.

    Args:
        logits: (B, C), C ≥ 2, finite; float32 or float64. float16 and bfloat16 are computed and returned in float32.

    Returns:
        (B, C), in [0, 1].
    """
    losses = cross_entropy(logits)
    # The sum is at least C·log C (its value at a uniform softmax), so it is never 0.
    return losses / losses.sum(dim=1, keepdim=True)
