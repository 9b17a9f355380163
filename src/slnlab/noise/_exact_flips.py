"""Which labels flip if each class has an exact number of flips."""

from __future__ import annotations

import torch
from torch import Tensor

from slnlab.noise._check import exact_count


def exact_flips(labels: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """Choose int(rate · n_c) of the n_c samples of each class c at random.

    For the same generator state a higher rate chooses a superset of the samples.

    Args:
        labels: (N,) int64 on the CPU, checked.
        rate: in [0, 1), checked.
        generator: CPU generator, advanced by the call.

    Returns:
        bool (N,).
    """
    sizes = torch.bincount(labels)
    counts = torch.tensor([exact_count(rate, size) for size in sizes.tolist()])
    order = torch.randperm(len(labels), generator=generator)
    by_class = order[labels[order].argsort(stable=True)]
    place = torch.arange(len(labels)) - (sizes.cumsum(0) - sizes)[labels[by_class]]  # within the own class, from 0
    flips = torch.zeros(len(labels), dtype=torch.bool)
    flips[by_class] = place < counts[labels[by_class]]
    return flips
