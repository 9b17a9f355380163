"""Symmetric label noise with an exact number of flips in each class."""

from __future__ import annotations

import torch
from torch import Tensor

from slnlab.noise._check import check_class_noise
from slnlab.noise._exact_flips import exact_flips

__all__ = ["symmetric_exact"]


def symmetric_exact(labels: Tensor, rate: float, num_classes: int, generator: torch.Generator) -> Tensor:
    """Flip int(ε·n) of the n samples of each class, uniformly to one of the *other* classes.

    The benchmark of the robust losses (Ma et al., 2020, and later) draws so. The expected transition matrix is that of
    :func:`slnlab.noise.symmetric`. For the same generator state a higher rate flips a superset of the samples, to the
    same classes.

    Args:
        labels: true labels, (N,) int64 on the CPU, in [0, num_classes).
        rate: the share ε of flips in each class, in [0, 1); 0 flips nothing.
        num_classes: C, at least 2.
        generator: CPU generator, advanced by the call.

    Returns:
        Given labels, (N,) int64; a new tensor.

    Raises:
        ConfigError: an argument of another type, shape or range.
    """
    rate, num_classes = check_class_noise(labels, rate, num_classes, generator)
    flips = exact_flips(labels, rate, generator)
    offset = torch.randint(1, num_classes, (len(labels),), generator=generator)
    return torch.where(flips, (labels + offset) % num_classes, labels)
