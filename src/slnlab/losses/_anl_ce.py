"""Active negative loss with cross entropy (Ye et al., 2023)."""

from __future__ import annotations

from math import log

import torch
from torch import Tensor

from slnlab.losses._check import check_weights
from slnlab.losses._nce import nce
from slnlab.schema.kinds import NonNegative

SMALLEST = log(1e-7)
"""Lower bound of log S."""


def anl_ce(logits: Tensor, alpha: NonNegative = 5.0, beta: NonNegative = 5.0) -> Tensor:
    """Active negative loss of every class, α·NCE + β·NNCE: normalised and normalised *negative* cross entropy.

    NNCE_c = 1 − z_c/Σ_k z_k with z_k = log max(S_k, 1e-7) − log 1e-7. Ye et al. (2023), equations 5 to 8. Their public
    code sets α, β to 5, 5 on CIFAR-10 and 10, 1 on CIFAR-100, and adds an L1 penalty on the parameters; `method=anl_ce`
    does the latter.

    Args:
        logits: (B, C), C ≥ 2, finite; float32 or float64. float16 and bfloat16 are computed and returned in float32.
        alpha, beta: weights of the two terms, finite, not negative.

    Returns:
        (B, C), in [0, α + β].

    Raises:
        ConfigError: a weight is outside its range.
    """
    check_weights("anl_ce", alpha=alpha, beta=beta)
    full = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    above = torch.log_softmax(full, dim=1).clamp(min=SMALLEST) - SMALLEST
    # The likeliest class has S ≥ 1/C, so the sum is well above 0 for fewer than ten million classes.
    return alpha * nce(logits) + beta * (1 - above / above.sum(dim=1, keepdim=True))
