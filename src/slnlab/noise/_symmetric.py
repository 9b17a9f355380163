"""Symmetric (uniform) label noise."""

from __future__ import annotations

import torch
from torch import Tensor

from slnlab.noise._check import check_class_noise

__all__ = ["symmetric"]


def symmetric(labels: Tensor, rate: float, num_classes: int, generator: torch.Generator) -> Tensor:
    """Flip each sample with probability ``rate``, uniformly to one of the *other* classes.

    The transition matrix is T[i, i] = 1 - ε and T[i, j] = ε / (C - 1) for j ≠ i, so the expected noise rate is ε. This
    is the "symmetric noise" of the SLN paper (ICLR 2021, section 4). Another benchmark draws from all C classes and so
    keeps every C-th chosen label: its ε corresponds to ε (C - 1) / C here.

    The number of flips is binomial, not exact. For the same generator state a higher rate flips a superset of the
    samples, to the same classes, so that runs of a sweep over rates differ in nothing else.

    Args:
        labels: true labels, (N,) int64 on the CPU, in [0, num_classes).
        rate: the probability ε of a flip, in [0, 1); 0 flips nothing.
        num_classes: C, at least 2.
        generator: CPU generator, advanced by the call.

    Returns:
        Given labels, (N,) int64; a new tensor.

    Raises:
        ConfigError: an argument of another type, shape or range.
    """
    rate, num_classes = check_class_noise(labels, rate, num_classes, generator)
    # float64, because float32 uniforms are multiples of 2^-24 and would round the rate to such a multiple.
    flips = torch.rand(len(labels), generator=generator, dtype=torch.float64) < rate
    # An offset of 1..C-1 reaches every other class once and never the class itself.
    offset = torch.randint(1, num_classes, (len(labels),), generator=generator)
    return torch.where(flips, (labels + offset) % num_classes, labels)
