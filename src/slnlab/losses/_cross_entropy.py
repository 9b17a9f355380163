"""Cross entropy."""

from __future__ import annotations

import torch
from torch import Tensor


def cross_entropy(logits: Tensor) -> Tensor:
    """Cross entropy of every class, L_c = −log S_c with S = softmax(logits).

    A target row t weighs it into the loss of the SLN paper (section 3.1), ℓ = −Σ_c t_c log S_c. Its gradient is
    ∂ℓ/∂logits = S·Σ_c t_c − t for any t; t need not sum to one.

    Args:
        logits: (B, C), finite; float32 or float64. float16 and bfloat16 are computed and returned in float32.

    Returns:
        (B, C), in [0, ∞).
    """
    # Half precision has only a few hundred values for a confident −log S. The losses built on this one inherit float32.
    full = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    return -torch.log_softmax(full, dim=1)
