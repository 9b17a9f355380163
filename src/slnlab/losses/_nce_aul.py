"""Normalised cross entropy with the asymmetric unhinged loss (Zhou et al., 2021)."""

from __future__ import annotations

from torch import Tensor

from slnlab.losses._aul import aul
from slnlab.losses._check import check_weights
from slnlab.losses._nce import nce
from slnlab.schema.kinds import AboveOne, NonNegative, Positive


def nce_aul(
    logits: Tensor, alpha: NonNegative = 1.0, beta: NonNegative = 4.0, a: AboveOne = 6.3, q: Positive = 1.5
) -> Tensor:
    """α·normalised cross entropy + β·asymmetric unhinged loss, of every class.

    The default values are those of Zhou et al. (2021) for CIFAR-10; `method=nce_aul` has CIFAR-100's. They also clip
    gradients at norm 5; the method does.

    Args:
        logits: (B, C), C ≥ 2, finite; float32 or float64. float16 and bfloat16 are computed and returned in float32.
        alpha, beta: weights of the two terms, finite, not negative.
        a: point beyond 1 to measure the probability from, finite, above 1.
        q: exponent, finite, above 0.

    Returns:
        (B, C), in [0, α + β(a^q − (a − 1)^q)/q].

    Raises:
        ConfigError: a weight, a or q is outside its range.
    """
    check_weights("nce_aul", alpha=alpha, beta=beta)
    return alpha * nce(logits) + beta * aul(logits, a, q)
