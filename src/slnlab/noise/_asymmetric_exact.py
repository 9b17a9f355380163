"""Asymmetric label noise with an exact number of flips in each class."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from slnlab.noise._asymmetric import mapped
from slnlab.noise._check import check_generator, check_labels, check_rate
from slnlab.noise._exact_flips import exact_flips

__all__ = ["asymmetric_exact"]


def asymmetric_exact(labels: Tensor, rate: float, class_map: Mapping[int, int], generator: torch.Generator) -> Tensor:
    """Flip int(ε·n) of the n samples of each class c in ``class_map`` to ``class_map[c]``.

    The benchmark of the robust losses (Ma et al., 2020, and later) draws so on CIFAR-10. All flips are decided by the
    true labels, as in :func:`slnlab.noise.asymmetric`. For the same generator state a higher rate flips a superset of
    the samples.

    Args:
        labels: true labels, (N,) int64 on the CPU, not negative.
        rate: the share ε of flips in each mapped class, in [0, 1); 0 flips nothing.
        class_map: true class → given class; not empty, and no class to itself.
        generator: CPU generator, advanced by the call.

    Returns:
        Given labels, (N,) int64; a new tensor.

    Raises:
        ConfigError: an argument of another type, shape or range.
    """
    rate = check_rate(rate)
    check_labels(labels)
    check_generator(generator)
    return torch.where(exact_flips(labels, rate, generator), mapped(labels, class_map), labels)
