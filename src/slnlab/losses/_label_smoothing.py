"""Label smoothing, a transform of targets (Szegedy et al., 2016; under label noise: Lukasik et al., 2020)."""

from __future__ import annotations

import torch
from torch import Tensor

from slnlab.errors import ConfigError


def label_smoothing(targets: Tensor, alpha: float) -> Tensor:
    """Smoothed targets, (1 − α)·t + α/C: a mixture of t with the uniform distribution.

    Every class-wise loss takes them by :func:`slnlab.losses.expected_loss`:
    ⟨(1 − α)·t + α/C, L⟩ = (1 − α)·⟨t, L⟩ + α·mean_c L_c. t may be any row, and need not sum to 1.

    Args:
        targets: (B, C), any dtype; float16, bfloat16 and integers are computed and returned in float32.
        alpha: in [0, 1].

    Returns:
        (B, C), float32 or float64.

    Raises:
        ConfigError: alpha is outside [0, 1].
        ValueError: targets are not (B, C).
    """
    if not 0.0 <= alpha <= 1.0:
        raise ConfigError(f"label_smoothing: alpha = {alpha}, but it must be in [0, 1]")
    if targets.ndim != 2:
        raise ValueError(f"label_smoothing: targets {tuple(targets.shape)} must be (B, C); see one_hot")
    full = targets if targets.dtype == torch.float64 else targets.float()
    return (1 - alpha) * full + alpha / targets.shape[1]
