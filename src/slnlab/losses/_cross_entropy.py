"""Cross entropy."""

from __future__ import annotations

import torch
from torch import Tensor


def cross_entropy(logits: Tensor) -> Tensor:
    """Cross entropy of every class, L_c = −log S_c with S = softmax(logits).

    Weighed by a target row t it is the loss of the paper (section 3.1), −Σ_c t_c log S_c, whose gradient is
    ∂ℓ/∂logits = S·Σ_c t_c − t, for any t: it need not sum to one.

    Args:
        logits: (B, C), finite; float32 or float64. float16 and bfloat16 are computed and returned in float32.

    Returns:
        (B, C), in [0, ∞).
    """
    # In half precision a confident −log S is rounded to a few hundred values; every loss built on this one
    # inherits the widening.
    full = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    return -torch.log_softmax(full, dim=1)
