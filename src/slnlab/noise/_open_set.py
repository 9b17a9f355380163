"""Open-set label noise: images of foreign classes under the data set's labels."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from slnlab.noise._check import check_generator, check_integer, check_labels, check_rate, exact_count

__all__ = ["Replacement", "open_set"]


class Replacement(NamedTuple):
    """Pairs of a training image and its donor image: image ``donor[m]`` replaces image ``index[m]``."""

    # The field hides tuple.index, which a pair of index sets does not need.
    index: Tensor  # type: ignore[assignment]
    """Replaced samples of the training set, (M,) int64, strictly ascending."""

    donor: Tensor
    """Replacing samples of the donor data set, (M,) int64."""


def open_set(labels: Tensor, rate: float, num_donors: int, generator: torch.Generator) -> Replacement:
    """Choose M = int(rate · N) training images, and another data set's images to replace them; all labels stay.

    The noise is that of Wang et al. (CVPR 2018), with CIFAR-100's *training* images as donors for CIFAR-10. Labels do
    not change, so comparing them does not find the wrong samples: ``NoiseRecord.wrong`` does.

    Both index sets are drawn uniformly without replacement. If there are fewer donors than M, each is used
    ⌊M / num_donors⌋ or ⌈M / num_donors⌉ times. For the same generator state a higher rate replaces a superset of the
    images, by the same donors.

    Args:
        labels: true labels, (N,) int64 on the CPU, not negative; only N matters.
        rate: share of replaced images, in [0, 1); exactly ``int(rate * N + 1e-9)`` are replaced. 0 replaces none.
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
