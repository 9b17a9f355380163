"""Joint asymmetric loss with cross entropy (Wang et al., 2025)."""

from __future__ import annotations

from torch import Tensor

from slnlab.losses._amse import amse
from slnlab.losses._check import check_weights
from slnlab.losses._nce import nce
from slnlab.schema.kinds import NonNegative, OneOrMore


def jal_ce(logits: Tensor, alpha: NonNegative = 1.0, beta: NonNegative = 1.0, a: OneOrMore = 30.0) -> Tensor:
    """Joint asymmetric loss of every class, α·normalised cross entropy + β·asymmetric mean squared error.

    The default values are those of Wang et al. (2025) for CIFAR-10. They also add an L1 penalty on the parameters;
    `method=jal_ce` does.

    Args:
        logits: (B, C), C ≥ 2, finite; float32 or float64. float16 and bfloat16 are computed and returned in float32.
        alpha, beta: weights of the two terms, finite, not negative.
        a: length of the target, finite, at least 1.

    Returns:
        (B, C), in [β(a − 1)²/C, α + β(a² + 1)/C].

    Raises:
        ConfigError: a weight or a is outside its range.
    """
    check_weights("jal_ce", alpha=alpha, beta=beta)
    return alpha * nce(logits) + beta * amse(logits, a)
