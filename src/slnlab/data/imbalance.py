"""Class imbalance: a long-tailed or stepped part of a training set, chosen before the label noise."""

from __future__ import annotations

import logging
from typing import Literal

import torch
from torch import Tensor

log = logging.getLogger(__name__)

ImbalanceKind = Literal["exponential", "step"]


def imbalanced_rows(
    labels: Tensor, num_classes: int, ratio: float, kind: ImbalanceKind, generator: torch.Generator
) -> Tensor:
    """Choose a part of every class at random, as Cao et al. (2019, LDAM) do.

    Class c of C keeps the fraction ratio^(−c/(C − 1)) of its samples (exponential), or all in the first half of the
    classes and 1/ratio in the second (step); rounded down, but at least one sample.

    Args:
        labels: true labels (N,) int64; each class is present.
        num_classes: C, at least 2.
        ratio: largest fraction over the smallest, ≥ 1.
        kind: shape over the classes.
        generator: on the CPU.

    Returns:
        Rows (M,) of the kept samples, ascending.
    """
    classes = torch.arange(num_classes, dtype=torch.float64)
    place = classes / (num_classes - 1) if kind == "exponential" else (classes >= num_classes / 2).double()
    counts = labels.bincount(minlength=num_classes)
    kept = (counts * ratio**-place + 1e-9).long().clamp(min=1)  # 1e-9: 5000/100 must be 50, not 49.999…
    shuffled = torch.randperm(len(labels), generator=generator)
    rows = torch.cat([shuffled[labels[shuffled] == c][:count] for c, count in enumerate(kept.tolist())]).sort().values
    log.info("data.imbalance: %d of %d training samples remain; by class: %s", len(rows), len(labels), kept.tolist())
    return rows
