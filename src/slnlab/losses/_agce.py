"""Asymmetric generalised cross entropy (Zhou et al., 2021)."""

from __future__ import annotations

import torch
from torch import Tensor

from slnlab.losses._check import check_above
from slnlab.losses._cross_entropy import cross_entropy
from slnlab.schema.kinds import Positive


def agce(logits: Tensor, a: Positive = 0.6, q: Positive = 0.6) -> Tensor:
    """Asymmetric generalised cross entropy of every class, L_c = ((a + 1)^q − (a + S_c)^q)/q with S = softmax(logits).

    Generalised cross entropy is the limit a → 0; q = 1 is half of :func:`slnlab.losses.mae`. Let w be the probabilities
    of the labels that a sample may get. The likeliest label y has the smallest expected loss for any w if q ≥ 1, and
    otherwise exactly if w_y/w_k ≥ ((a + 1)/a)^(1 − q) for all others. Zhou et al. (2021), "asymmetric".

    Args:
        logits: (B, C), finite; float32 or float64. float16 and bfloat16 are computed and returned in float32.
        a: shift of the probability, finite, above 0.
        q: exponent, finite, above 0.

    Returns:
        (B, C), in [0, ((a + 1)^q − a^q)/q].

    Raises:
        ConfigError: a or q is infinite or not above 0.
    """
    check_above("agce", 0, a=a, q=q)
    softmax = torch.exp(-cross_entropy(logits))
    # A difference of powers would lose digits for a small q.
    return -((a + 1) ** q) * torch.expm1(q * torch.log((a + softmax) / (a + 1))) / q
