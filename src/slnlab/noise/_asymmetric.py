"""Asymmetric (class-conditional, pairwise) label noise."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from slnlab.errors import ConfigError
from slnlab.noise._check import check_generator, check_integer, check_labels, check_num_classes, check_rate

__all__ = ["asymmetric", "next_class"]


def asymmetric(labels: Tensor, rate: float, class_map: Mapping[int, int], generator: torch.Generator) -> Tensor:
    """Flip each sample of a class c in ``class_map`` to ``class_map[c]`` with probability ``rate``.

    All flips are decided by the true labels. Two classes that map onto each other (CIFAR-10's cat and dog, 3 → 5 and
    5 → 3) swap and never chain. Unmapped classes stay clean. The expected overall noise rate is ε times the share of
    samples in mapped classes: ε / 2 on CIFAR-10 with {9: 1, 2: 0, 4: 7, 3: 5, 5: 3} (Patrini et al., CVPR 2017,
    section 5; the SLN paper, section 4). CIFAR-100 uses ``next_class(100)``.

    The number of flips is binomial, not exact. For the same generator state a higher rate flips a superset
    of the samples.

    Args:
        labels: true labels, (N,) int64 on the CPU, not negative.
        rate: the probability ε of a flip within a mapped class, in [0, 1); 0 flips nothing.
        class_map: true class → given class; not empty, and no class to itself. A key may match no label, because a
            subset of the data may lack a class.
        generator: CPU generator, advanced by the call.

    Returns:
        Given labels, (N,) int64; a new tensor. The number of classes is unknown here, so targets in ``class_map`` are
        not checked against it.

    Raises:
        ConfigError: an argument of another type, shape or range.
    """
    rate = check_rate(rate)
    check_labels(labels)
    check_generator(generator)
    targets = mapped(labels, class_map)
    # Samples of unmapped classes draw too, so that a sample's flip does not depend on the other keys of the map.
    flips = torch.rand(len(labels), generator=generator, dtype=torch.float64) < rate
    return torch.where(flips, targets, labels)


def mapped(labels: Tensor, class_map: Mapping[int, int]) -> Tensor:
    """The labels (N,) that a class map leads to; unmapped classes stay.

    Raises:
        ConfigError: ``class_map`` maps no classes to classes, is empty, or maps a class to itself.
    """
    pairs = _check_class_map(class_map)
    target = torch.arange(max(int(labels.max()), *pairs) + 1)
    for true_class, given_class in pairs.items():
        target[true_class] = given_class
    return target[labels]


def next_class(num_classes: int) -> dict[int, int]:
    """Return the class map c → c + 1 mod C, the SLN paper's asymmetric noise on CIFAR-100.

    All classes form one cycle. Cycles within each superclass are another benchmark.

    Raises:
        ConfigError: ``num_classes`` is no integer of at least 2.
    """
    num_classes = check_num_classes(num_classes)
    return {c: (c + 1) % num_classes for c in range(num_classes)}


def _check_class_map(class_map: Mapping[int, int]) -> dict[int, int]:
    if not isinstance(class_map, Mapping):
        raise ConfigError(f"class_map: must map classes to classes, not be a {type(class_map).__name__}")
    if len(class_map) == 0:
        raise ConfigError("class_map: is empty, so no label could ever flip; use the noise type 'clean'")
    pairs: dict[int, int] = {}
    for key, value in class_map.items():
        true_class = check_integer(key, "class_map key", minimum=0)
        given_class = check_integer(value, f"class_map[{key}]", minimum=0)
        if true_class == given_class:
            raise ConfigError(f"class_map[{key}]={value}: a class must not be mapped to itself")
        pairs[true_class] = given_class
    return pairs
