"""Asymmetric exponential loss (Zhou et al., 2021)."""

from __future__ import annotations

import torch
from torch import Tensor

from slnlab.losses._check import check_above
from slnlab.losses._cross_entropy import cross_entropy
from slnlab.schema.kinds import Positive


def ael(logits: Tensor, a: Positive = 2.5) -> Tensor:
    """Asymmetric exponential loss of every class, L_c = exp(−S_c/a) with S = softmax(logits).

    Let w be the probabilities of the labels that a sample may get. The likeliest label y has the smallest expected loss
    exactly if w_y/w_k ≥ exp(1/a) for all others. Zhou et al. (2021), "asymmetric". For a → ∞ the gradient, times a, is
    that of half of :func:`slnlab.losses.mae`.

    Args:
        logits: (B, C), finite; float32 or float64. float16 and bfloat16 are computed and returned in float32.
        a: scale of the probability, finite, above 0.

    Returns:
        (B, C), in [exp(−1/a), 1].

    Raises:
        ConfigError: a is infinite or not above 0.
    """
    check_above("ael", 0, a=a)
    return torch.exp(-torch.exp(-cross_entropy(logits)) / a)
