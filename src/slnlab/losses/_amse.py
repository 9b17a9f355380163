"""Asymmetric mean squared error (Wang et al., 2025)."""

from __future__ import annotations

import torch
from torch import Tensor

from slnlab.errors import ConfigError
from slnlab.losses._cross_entropy import cross_entropy
from slnlab.schema.kinds import OneOrMore


def amse(logits: Tensor, a: OneOrMore = 30.0) -> Tensor:
    """Asymmetric mean squared error of every class, L_c = (Σ_k S_k² − 2a·S_c + a²)/C with S = softmax(logits).

    It is the mean over k of (S_k − a·onehot(c)_k)²; a = 1 is the mean squared error. Let w be the probabilities of the
    labels that a sample may get. The likeliest label y has the smallest expected loss exactly if a·(w_y − w_k) ≥ 1 for
    all others.

    Args:
        logits: (B, C), finite; float32 or float64. float16 and bfloat16 are computed and returned in float32.
        a: length of the target, finite, at least 1.

    Returns:
        (B, C), in [(a − 1)²/C, (a² + 1)/C].

    Raises:
        ConfigError: a is infinite or below 1.
    """
    if not 1.0 <= a < float("inf"):
        raise ConfigError(f"amse: a = {a}, but it must be finite and at least 1")
    softmax = torch.exp(-cross_entropy(logits))
    squares = softmax**2
    # The squares of the other classes; a rounded sum of squares is never below one of them.
    others = squares.sum(dim=1, keepdim=True) - squares
    return ((a - softmax) ** 2 + others) / logits.shape[1]
