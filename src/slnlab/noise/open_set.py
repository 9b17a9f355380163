"""Open-set label noise: images of no class of ours, under labels of ours."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from slnlab.noise._check import check_generator, check_integer, check_labels, check_rate, exact_count

__all__ = ["Replacement", "open_set"]


class Replacement(NamedTuple):
    """Which training images give way to which donor images. Pair m: image ``index[m]`` ← ``donor[m]``."""

    # Hides tuple.index, which nobody asks of a pair of index sets.
    index: Tensor  # type: ignore[assignment]
    """Samples of the training set whose image is replaced, (M,) int64, strictly ascending."""

    donor: Tensor
    """Samples of the donor data set whose image takes that place, (M,) int64."""


def open_set(labels: Tensor, rate: float, num_donors: int, generator: torch.Generator) -> Replacement:
    """M = int(rate · N) training images are replaced by images of another data set; all labels stay.

    As in the open-set noise of Wang et al. (CVPR 2018), with CIFAR-100's *training* images as the donors for
    CIFAR-10. No label changes, so the mask of wrong samples cannot be had by comparing labels: it is
    ``NoiseRecord.wrong``.

    Both index sets are drawn uniformly without replacement. With fewer donors than M, donors are reused
    evenly: each is used ⌊M / num_donors⌋ or ⌈M / num_donors⌉ times. For the same generator state a higher
    rate replaces a superset of the images, by the same donors.

    Args:
        labels: true labels, (N,) int64 on the CPU, not negative; only N matters.
        rate: the share of images replaced, in [0, 1); exactly ``int(rate * N + 1e-9)`` are. 0 replaces none.
        num_donors: size of the donor data set, at least 1.
        generator: CPU generator, advanced by the call.

    Returns:
        Replacement(index, donor), both (M,) int64; index in [0, N), donor in [0, num_donors).

    Raises:
        ConfigError: an argument of another type, shape or range.
    """
    rate = check_rate(rate)
    check_labels(labels)
    num_donors = check_integer(num_donors, "num_donors", minimum=1)
    check_generator(generator)
    count = exact_count(rate, len(labels))
    index = torch.randperm(len(labels), generator=generator)[:count]
    rounds = max(1, -(-count // num_donors))
    donor = torch.cat([torch.randperm(num_donors, generator=generator) for _ in range(rounds)])[:count]
    order = index.argsort()
    return Replacement(index[order], donor[order])
