"""Oversampling: an epoch in which every class is equally likely, although the data are imbalanced."""

from __future__ import annotations

import torch
from torch import Tensor


def equally_often(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Draw as many samples as there are, equally many of each label (class-balanced sampling, Kang et al. 2020).

    Of M samples with C' different labels, each label gets M/C' draws; if that is no integer, labels drawn at random get
    one more than others. The samples of a label are drawn equally often too, up to one: a small class repeats its
    samples, and a large class leaves some out.

    Args:
        labels: (M,) int64.
        generator: on the device of `labels`.

    Returns:
        Places (M,) in `labels`, not in random order.
    """
    size, device = len(labels), labels.device
    shuffled = torch.randperm(size, generator=generator, device=device)
    of_labels = shuffled[labels[shuffled].argsort(stable=True)]  # the samples label by label
    counts = labels.bincount()
    first, present = counts.cumsum(0) - counts, counts.nonzero().flatten()
    present = present[torch.randperm(len(present), generator=generator, device=device)]
    draws = torch.arange(size, device=device)
    label, turn = present[draws % len(present)], draws // len(present)
    return of_labels[first[label] + turn % counts[label]]
