from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor

from slnlab.errors import ConfigError
from slnlab.noise import asymmetric, next_class

CIFAR10 = {9: 1, 2: 0, 4: 7, 3: 5, 5: 3}


def spoil(labels: Tensor, rate: float, class_map: Any, seed: int = 0) -> Tensor:
    return asymmetric(labels, rate, class_map, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rate", [0.1, 0.4])
def test_cifar10_flips_by_the_map_and_half_the_rate_overall(rate: float) -> None:
    labels = torch.arange(10).repeat(5000)
    given = spoil(labels, rate, CIFAR10)
    assert given.dtype == torch.int64
    for true_class in range(10):
        reached = set(given[labels == true_class].tolist())
        assert reached == ({true_class, CIFAR10[true_class]} if true_class in CIFAR10 else {true_class})
    wrong = int((given != labels).sum())
    assert binomtest(wrong, len(labels) // 2, rate).pvalue > 1e-3


@pytest.mark.parametrize("class_map", [{3: 5, 5: 3}, {5: 3, 3: 5}])
def test_a_swapped_pair_never_chains(class_map: dict[int, int]) -> None:
    # Class by class, 3 → 5 and then 5 → 3 would bring ε² of class 3 back: at .9, 81 % would not flip.
    labels = torch.tensor([3, 5]).repeat(20_000)
    given = spoil(labels, 0.9, class_map)
    for true_class in (3, 5):
        wrong = int((given[labels == true_class] != true_class).sum())
        assert binomtest(wrong, 20_000, 0.9).pvalue > 1e-3


def test_a_chain_of_classes_moves_one_step() -> None:
    labels = torch.tensor([0, 1, 2, 3]).repeat(1000)
    given = spoil(labels, 0.9, {0: 1, 1: 2, 2: 3})
    step = given - labels
    assert set(step.tolist()) == {0, 1}
    assert not step[labels == 3].any()


def test_the_next_class_of_cifar100() -> None:
    class_map = next_class(100)
    assert class_map[0] == 1
    assert class_map[41] == 42
    assert class_map[99] == 0
    assert sorted(class_map) == sorted(class_map.values()) == list(range(100))
    labels = torch.arange(100).repeat(500)
    given = spoil(labels, 0.4, class_map)
    step = (given - labels) % 100
    assert set(step.tolist()) == {0, 1}
    assert set(given[labels == 99].tolist()) == {99, 0}
    assert binomtest(int(step.sum()), len(labels), 0.4).pvalue > 1e-3


def test_flips_of_a_class_do_not_depend_on_other_entries() -> None:
    labels = torch.arange(10).repeat(200)
    alone, all_together = spoil(labels, 0.4, {3: 5}), spoil(labels, 0.4, CIFAR10)
    assert alone[labels == 3].equal(all_together[labels == 3])


def test_the_order_of_the_map_does_not_matter() -> None:
    labels = torch.arange(10).repeat(200)
    assert spoil(labels, 0.4, CIFAR10).equal(spoil(labels, 0.4, dict(reversed(CIFAR10.items()))))


def test_the_generator_determines_flips_and_rates_are_nested() -> None:
    labels = torch.arange(10).repeat(500)
    low, high = spoil(labels, 0.2, CIFAR10), spoil(labels, 0.6, CIFAR10)
    assert ((low != labels) <= (high != labels)).all()
    assert not low.equal(spoil(labels, 0.2, CIFAR10, seed=1))


def test_a_mapped_class_can_be_absent_from_the_data() -> None:
    labels = torch.tensor([0, 1] * 50)
    given = spoil(labels, 0.5, CIFAR10 | {1: 12})
    assert set(given.tolist()) == {0, 1, 12}


@pytest.mark.parametrize(
    ("class_map", "message"),
    [
        ({3: 3}, r"class_map\[3\]=3.*itself"),
        ({0: 1, 4: 4}, r"class_map\[4\]=4.*itself"),
        ({}, "empty"),
        ({-1: 2}, "class_map key=-1"),
        ({2: -1}, r"class_map\[2\]=-1"),
        ({"3": 5}, "class_map key='3'"),
        ({3: 5.0}, r"class_map\[3\]=5\.0"),
        ({True: 2}, "class_map key=True"),
        ([[3, 5]], "must map"),
    ],
)
def test_an_impossible_map_is_refused(class_map: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        spoil(torch.tensor([0, 1, 2]), 0.4, class_map)
