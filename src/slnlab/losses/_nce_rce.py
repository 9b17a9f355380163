"""Normalised cross entropy with reverse cross entropy, an active passive loss (Ma et al., 2020)."""

from __future__ import annotations

from torch import Tensor

from slnlab.losses._check import check_weights
from slnlab.losses._nce import nce
from slnlab.losses._reverse_ce import LOG_ZERO, reverse_ce
from slnlab.schema.kinds import Negative, NonNegative


def nce_rce(logits: Tensor, alpha: NonNegative = 1.0, beta: NonNegative = 1.0, log_zero: Negative = LOG_ZERO) -> Tensor:
    """Active passive loss of every class, α·normalised cross entropy + β·reverse cross entropy.

    Ma et al. (2020) set α, β to 1, 1 on CIFAR-10 and 10, 0.1 on CIFAR-100. They also clip gradients at norm 5; the
    training loop does that.

    Args:
        logits: (B, C), C ≥ 2, finite; float32 or float64. float16 and bfloat16 are computed and returned in float32.
        alpha, beta: weights of the two terms, finite, not negative.
        log_zero: finite and negative; see :func:`slnlab.losses.reverse_ce`.

    Returns:
        (B, C), in [0, α − β·log_zero].

    Raises:
        ConfigError: a weight or log_zero is outside its range.
    """
    check_weights("nce_rce", alpha=alpha, beta=beta)
    return alpha * nce(logits) + beta * reverse_ce(logits, log_zero)
