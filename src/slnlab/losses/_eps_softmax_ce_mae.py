"""Cross entropy of the ε-softmax with the mean absolute error (Wang et al., 2024)."""

from __future__ import annotations

from torch import Tensor

from slnlab.losses._check import check_weights
from slnlab.losses._eps_softmax_ce import eps_softmax_ce
from slnlab.losses._mae import mae
from slnlab.schema.kinds import NonNegative


def eps_softmax_ce_mae(
    logits: Tensor, alpha: NonNegative = 0.01, beta: NonNegative = 5.0, m: NonNegative = 1e5
) -> Tensor:
    """α·cross entropy of the ε-softmax + β·mean absolute error, of every class.

    The default values are those of Wang et al. (2024) for CIFAR-10 with symmetric noise; `method=eps_softmax` has the
    others.

    Args:
        logits: (B, C), finite; float32 or float64. float16 and bfloat16 are computed and returned in float32.
        alpha, beta: weights of the two terms, finite, not negative.
        m: weight of the one-hot prediction, finite, not negative.

    Returns:
        (B, C), in [0, 18.4·α + 2·β].

    Raises:
        ConfigError: a weight or m is outside its range.
    """
    check_weights("eps_softmax_ce_mae", alpha=alpha, beta=beta)
    return alpha * eps_softmax_ce(logits, m) + beta * mae(logits)
