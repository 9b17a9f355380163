"""Normalised cross entropy with the asymmetric exponential loss (Zhou et al., 2021)."""

from __future__ import annotations

from torch import Tensor

from slnlab.losses._ael import ael
from slnlab.losses._check import check_weights
from slnlab.losses._nce import nce
from slnlab.schema.kinds import NonNegative, Positive


def nce_ael(logits: Tensor, alpha: NonNegative = 1.0, beta: NonNegative = 4.0, a: Positive = 5.0) -> Tensor:
    """α·normalised cross entropy + β·asymmetric exponential loss, of every class.

    The default values are those of Zhou et al. (2021) for CIFAR-10; `method=nce_ael` has CIFAR-100's. They also clip
    gradients at norm 5; the method does.

    Args:
        logits: (B, C), C ≥ 2, finite; float32 or float64. float16 and bfloat16 are computed and returned in float32.
        alpha, beta: weights of the two terms, finite, not negative.
        a: scale of the probability, finite, above 0.

    Returns:
        (B, C), in [β·exp(−1/a), α + β].

    Raises:
        ConfigError: a weight, a is outside its range.
    """
    check_weights("nce_ael", alpha=alpha, beta=beta)
    return alpha * nce(logits) + beta * ael(logits, a)
