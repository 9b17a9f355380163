"""Reverse cross entropy (Wang et al., 2019)."""

from __future__ import annotations

from math import log

from torch import Tensor

from slnlab.errors import ConfigError
from slnlab.losses._gce import gce
from slnlab.schema.kinds import Negative

LOG_ZERO = log(1e-4)
"""Value of log 0, −9.2103: all public code clips the one-hot label at 1e-4. The text of Wang et al. has −4."""


def reverse_ce(logits: Tensor, log_zero: Negative = LOG_ZERO) -> Tensor:
    """Reverse cross entropy of every class, L_c = −Σ_k S_k log onehot(c)_k = −A(1 − S_c) with S = softmax(logits).

    A = `log_zero` stands for log 0. The loss is :func:`slnlab.losses.mae` times −A/2, so `log_zero` is only a scale.
    For a target that is not one-hot, ⟨t, L⟩ is the linear extension, not −Σ_k S_k log t_k.

    Args:
        logits: (B, C), finite; float32 or float64. float16 and bfloat16 are computed and returned in float32.
        log_zero: A, finite and negative.

    Returns:
        (B, C), in [0, −A].

    Raises:
        ConfigError: log_zero is infinite or not negative.
    """
    if not float("-inf") < log_zero < 0.0:
        raise ConfigError(f"reverse_ce: log_zero = {log_zero}, but it must be finite and negative")
    return -log_zero * gce(logits, q=1.0)
