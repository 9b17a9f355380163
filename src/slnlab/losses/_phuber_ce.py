"""Partially Huberised cross entropy (Menon, Rawat, Reddi & Kumar, 2020)."""

from __future__ import annotations

from math import log

import torch
from torch import Tensor

from slnlab.errors import ConfigError
from slnlab.losses._cross_entropy import cross_entropy
from slnlab.schema.kinds import OneOrMore


def phuber_ce(logits: Tensor, tau: OneOrMore = 2.0) -> Tensor:
    """Partially Huberised cross entropy of every class, with S = softmax(logits).

    L_c = −log S_c for S_c > 1/τ, and its tangent at 1/τ, log τ + 1 − τ·S_c, for smaller S_c. So the slope of an
    unlikely sample is at most τ. It lies between half of :func:`slnlab.losses.mae` (τ = 1) and cross entropy (τ → ∞).
    Menon et al. (2020), section 4.

    Args:
        logits: (B, C), finite; float32 or float64. float16 and bfloat16 are computed and returned in float32.
        tau: bound of the slope, finite, at least 1.

    Returns:
        (B, C), in [0, 1 + log τ].

    Raises:
        ConfigError: tau is infinite or below 1.
    """
    if not 1.0 <= tau < float("inf"):
        raise ConfigError(f"phuber_ce: tau = {tau}, but it must be finite and at least 1")
    losses = cross_entropy(logits)
    # Both branches and their gradients are finite everywhere, so where() passes on no NaN.
    return torch.where(losses < log(tau), losses, log(tau) + 1 - tau * torch.exp(-losses))
