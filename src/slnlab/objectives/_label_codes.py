"""Classes as code words of bits, which a second head predicts (Jump-teaching)."""

from __future__ import annotations

import torch
from scipy.linalg import hadamard
from torch import Tensor

from slnlab.errors import ConfigError
from slnlab.objectives._precision import in_full

CLIP = 1e-4
"""Bits lie in [−1 + 1e-4, 1 − 1e-4], so that their logarithms are finite."""


def label_codes(classes: int, bits: int) -> Tensor:
    """The first rows of the Hadamard matrix H, and then of −H: any two differ in half of the bits at least.

    Args:
        classes: number of classes C.
        bits: length M of a code word, a power of two, at least C/2.

    Returns:
        (C, M) float32, ±1.

    Raises:
        ConfigError: there are too few code words, or `bits` is no power of two.
    """
    if bits < 1 or bits & (bits - 1):
        raise ConfigError(f"method.bits: must be a power of two, not {bits}")
    if classes > 2 * bits:
        raise ConfigError(f"method.bits: {bits} bits have {2 * bits} code words, but there are {classes} classes")
    matrix = torch.from_numpy(hadamard(bits)).float()
    return torch.cat([matrix, -matrix])[:classes]


def bit_losses(bits: Tensor, codes: Tensor) -> Tensor:
    """Binary cross entropy of each bit.

    Args:
        bits: predictions (B, M) in [−1, 1]; clipped here.
        codes: code words (B, M), ±1 or weighted means of such.

    Returns:
        (B, M), ≥ 0; float64 for float64 bits, else float32.
    """
    clipped = in_full(bits).clamp(CLIP - 1, 1 - CLIP)
    return -((1 + codes) / 2 * ((1 + clipped) / 2).log() + (1 - codes) / 2 * ((1 - clipped) / 2).log())
