"""Normalised cross entropy with the asymmetric generalised cross entropy (Zhou et al., 2021)."""

from __future__ import annotations

from torch import Tensor

from slnlab.losses._agce import agce
from slnlab.losses._check import check_weights
from slnlab.losses._nce import nce
from slnlab.schema.kinds import NonNegative, Positive


def nce_agce(
    logits: Tensor, alpha: NonNegative = 1.0, beta: NonNegative = 4.0, a: Positive = 6.0, q: Positive = 1.5
) -> Tensor:
    """α·normalised cross entropy + β·asymmetric generalised cross entropy, of every class.

    The default values are those of Zhou et al. (2021) for CIFAR-10; `method=nce_agce` has CIFAR-100's. They also clip
    gradients at norm 5; the method does.

    Args:
        logits: (B, C), C ≥ 2, finite; float32 or float64. float16 and bfloat16 are computed and returned in float32.
        alpha, beta: weights of the two terms, finite, not negative.
        a: shift of the probability, finite, above 0.
        q: exponent, finite, above 0.

    Returns:
        (B, C), in [0, α + β((a + 1)^q − a^q)/q].

    Raises:
        ConfigError: a weight, a or q is outside its range.
    """
    check_weights("nce_agce", alpha=alpha, beta=beta)
    return alpha * nce(logits) + beta * agce(logits, a, q)
