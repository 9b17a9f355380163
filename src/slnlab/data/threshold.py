"""Threshold samples: training samples with a label of an extra class, surely wrong (Pleiss et al. 2020)."""

from __future__ import annotations

import torch
from torch import Tensor

from slnlab.streams import Streams


def threshold_rows(pool: Tensor, num_classes: int, number: int, seed: int) -> Tensor:
    """The rows of a set of threshold samples, ascending: M/(C + 1) of M, so many as of an average class with it.

    Args:
        pool: training samples (M,).
        num_classes: C, without the extra class.
        number: 1 or 2; the two sets share no sample.
        seed: of the choice.
    """
    size = max(1, len(pool) // (num_classes + 1))
    order = torch.randperm(len(pool), generator=Streams(seed)("threshold samples"))
    return pool[order[(number - 1) * size : number * size]].sort().values
