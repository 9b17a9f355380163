"""Cross entropy of the ε-softmax (Wang et al., 2024)."""

from __future__ import annotations

from math import log, log1p

import torch
from torch import Tensor

from slnlab.errors import ConfigError
from slnlab.losses._cross_entropy import cross_entropy
from slnlab.losses._gce import gce
from slnlab.schema.kinds import NonNegative

LARGEST = -log(1e-8)
"""Upper bound of the loss, 18.4: the public code bounds the ε-softmax from below by 1e-8."""


def eps_softmax_ce(logits: Tensor, m: NonNegative = 1e5) -> Tensor:
    """Cross entropy of every class under the ε-softmax, L_c = −log max(q_c, 1e-8).

    q = (S + m·onehot(argmax S))/(m + 1) with S = softmax(logits) lies within ε of a one-hot vector; the argmax has no
    gradient. So the predicted class hardly pulls: its slope is at most 1/m. Another class has the gradient of cross
    entropy if S_c > (m + 1)·1e-8, and none below. m = 0 is cross entropy up to the bound.

    Wang et al. (2024) combine the loss with the mean absolute error: :func:`slnlab.losses.eps_softmax_ce_mae`.

    Args:
        logits: (B, C), finite; float32 or float64. float16 and bfloat16 are computed and returned in float32.
        m: weight of the one-hot prediction, finite, not negative.

    Returns:
        (B, C), in [0, 18.4].

    Raises:
        ConfigError: m is infinite or negative.
    """
    if not 0.0 <= m < float("inf"):
        raise ConfigError(f"eps_softmax_ce: m = {m}, but it must be finite and not negative")
    losses = cross_entropy(logits)
    predicted = torch.zeros_like(losses, dtype=torch.bool).scatter_(1, losses.argmin(1, keepdim=True), True)
    # In float32, S + m would lose all digits of S. The slope of log1p is infinite at S = 0, so where() comes before it.
    distance = torch.where(predicted, gce(logits, q=1.0), 0.0)
    return torch.where(predicted, -torch.log1p(-distance / (m + 1)), losses + log1p(m)).clamp(max=LARGEST)
