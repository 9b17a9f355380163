"""Generalised cross entropy (Zhang & Sabuncu, 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

from slnlab.errors import ConfigError
from slnlab.losses._cross_entropy import cross_entropy
from slnlab.schema.kinds import PositiveShare


def gce(logits: Tensor, q: PositiveShare = 0.7) -> Tensor:
    """Generalised cross entropy of every class, L_c = (1 − S_c^q)/q with S = softmax(logits).

    It lies between cross entropy (q → 0) and half of :func:`slnlab.losses.mae` (q = 1). Zhang & Sabuncu (2018),
    equation 6. The rows GCE of the SLN paper's tables are the *truncated* loss (`method=truncated_gce`), not this one.

    Args:
        logits: (B, C), finite; float32 or float64. float16 and bfloat16 are computed and returned in float32.
        q: exponent in (0, 1].

    Returns:
        (B, C), in [0, 1/q].

    Raises:
        ConfigError: q is outside (0, 1].
    """
    if not 0.0 < q <= 1.0:
        raise ConfigError(f"gce: q = {q}, but it must be in (0, 1]")
    # S^q = exp(q log S). The slope of S**q is infinite where S underflows to 0, and 1 − S^q loses digits when q is
    # small or S is near 1.
    return -torch.expm1(-q * cross_entropy(logits)) / q
