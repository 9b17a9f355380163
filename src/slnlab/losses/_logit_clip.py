"""LogitClip (Wei et al., 2023): logits of bounded norm, for any loss."""

from __future__ import annotations

import torch
from torch import Tensor

from slnlab.errors import ConfigError
from slnlab.schema.kinds import NonNegative


def logit_clip(logits: Tensor, tau: NonNegative) -> Tensor:
    """Logits f scaled down to the norm τ, f·min(1, τ/‖f‖₂), as the input of any loss in training.

    A clipped sample has no gradient along f, so no loss rewards longer logits, and any continuous loss is bounded. The
    order of the classes stays. Testing uses the logits as they are. Wei et al. (2023) report δ = 1/τ. Their public code
    clips to τ, but from the norm 1/τ on, so that it is this formula only at τ = 1.

        >>> import torch
        >>> logit_clip(torch.tensor([[3.0, 4.0], [0.6, 0.0]]), tau=1.0)
        tensor([[0.6000, 0.8000],
                [0.6000, 0.0000]])

    Args:
        logits: (B, C), finite; float32 or float64. float16 and bfloat16 are computed and returned in float32.
        tau: largest norm τ, finite; 0: no clipping.

    Returns:
        (B, C); for τ = 0 the logits themselves.

    Raises:
        ConfigError: tau is infinite or negative.
    """
    if not 0.0 <= tau < float("inf"):
        raise ConfigError(f"logit_clip: tau = {tau}, but it must be finite and not negative (0: no clipping)")
    if not tau:
        return logits
    full = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    # The clamp keeps τ/‖f‖ and its slope finite at f = 0.
    return full * (tau / torch.linalg.vector_norm(full, dim=1, keepdim=True).clamp(min=tau))
