"""Asymmetric unhinged loss (Zhou et al., 2021)."""

from __future__ import annotations

import torch
from torch import Tensor

from slnlab.losses._check import check_above
from slnlab.losses._gce import gce
from slnlab.schema.kinds import AboveOne, Positive


def aul(logits: Tensor, a: AboveOne = 5.5, q: Positive = 3.0) -> Tensor:
    """Asymmetric unhinged loss of every class, L_c = ((a − S_c)^q − (a − 1)^q)/q with S = softmax(logits).

    q = 1 is half of :func:`slnlab.losses.mae`. Let w be the probabilities of the labels that a sample may get. The
    likeliest label y has the smallest expected loss for any w if q ≤ 1, and otherwise exactly if
    w_y/w_k ≥ (a/(a − 1))^(q − 1) for all others. Zhou et al. (2021), "asymmetric". Public code also says AUE.

    Args:
        logits: (B, C), finite; float32 or float64. float16 and bfloat16 are computed and returned in float32.
        a: point beyond 1 to measure the probability from, finite, above 1.
        q: exponent, finite, above 0.

    Returns:
        (B, C), in [0, (a^q − (a − 1)^q)/q].

    Raises:
        ConfigError: a is infinite or not above 1, or q is infinite or not above 0.
    """
    check_above("aul", 1, a=a)
    check_above("aul", 0, q=q)
    # With the distance 1 − S_c, because a − S_c may be 0 in float32 for an `a` near 1.
    return (a - 1) ** q * torch.expm1(q * torch.log1p(gce(logits, q=1.0) / (a - 1))) / q
