"""Symmetric cross entropy (Wang et al., 2019)."""

from __future__ import annotations

from torch import Tensor

from slnlab.losses._check import check_weights
from slnlab.losses._cross_entropy import cross_entropy
from slnlab.losses._reverse_ce import LOG_ZERO, reverse_ce
from slnlab.schema.kinds import Negative, NonNegative


def sce(logits: Tensor, alpha: NonNegative = 0.1, beta: NonNegative = 1.0, log_zero: Negative = LOG_ZERO) -> Tensor:
    """Symmetric cross entropy of every class, α·cross entropy + β·reverse cross entropy.

    Wang et al. (2019), equation 7. Their α, β are 0.1, 1 on CIFAR-10 and 6, 0.1 on CIFAR-100. They belong to the
    `log_zero` of their code (log 1e-4, the default), not to that of their text (−4).

    Args:
        logits: (B, C), finite; float32 or float64. float16 and bfloat16 are computed and returned in float32.
        alpha, beta: weights of the two terms, finite, not negative.
        log_zero: finite and negative; see :func:`slnlab.losses.reverse_ce`.

    Returns:
        (B, C), in [0, ∞).

    Raises:
        ConfigError: a weight or log_zero is outside its range.
    """
    check_weights("sce", alpha=alpha, beta=beta)
    return alpha * cross_entropy(logits) + beta * reverse_ce(logits, log_zero)
