"""Symmetric and asymmetric noise with an exact number of flips in each class."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from slnlab.config import check, compose
from slnlab.errors import ConfigError
from slnlab.noise import asymmetric_exact, next_class, symmetric_exact


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def flipped(labels: Tensor, given: Tensor) -> list[int]:
    """The number of flips in each class."""
    return torch.bincount(labels[given != labels], minlength=int(labels.max()) + 1).tolist()


@pytest.mark.parametrize(("rate", "counts"), [(0.2, [20, 1, 2]), (0.29, [29, 2, 2]), (0.9, [90, 6, 9])])
def test_each_class_has_its_share_of_flips_rounded_down(rate: float, counts: list[int]) -> None:
    """100, 7 and 10 samples; 0.29 · 100 is just below 29 in floating point."""
    labels = torch.tensor([0] * 100 + [1] * 7 + [2] * 10)[torch.randperm(117, generator=generator(5))]
    assert flipped(labels, symmetric_exact(labels, rate, 3, generator())) == counts
    assert flipped(labels, asymmetric_exact(labels, rate, next_class(3), generator())) == counts


def test_symmetric_flips_are_uniform_over_the_other_classes_and_places() -> None:
    labels = torch.arange(7).repeat(10_000)
    given = symmetric_exact(labels, 0.5, 7, generator())
    for true_class in range(7):
        counts = torch.bincount(given[labels == true_class], minlength=7)
        others = torch.cat([counts[:true_class], counts[true_class + 1 :]])
        assert chisquare(others.numpy()).pvalue > 1e-3
    by_place = (given != labels).view(10, -1).sum(1)
    assert chisquare(by_place.numpy()).pvalue > 1e-3


def test_unmapped_classes_stay_and_pairs_swap() -> None:
    labels = torch.arange(4).repeat(10)
    given = asymmetric_exact(labels, 0.4, {1: 2, 2: 1}, generator())
    assert flipped(labels, given) == [0, 4, 4, 0]
    assert given[(labels == 1) & (given != labels)].tolist() == [2] * 4
    assert given[(labels == 2) & (given != labels)].tolist() == [1] * 4


def test_a_higher_rate_flips_a_superset_to_the_same_classes() -> None:
    labels = torch.arange(10).repeat(50)
    low, high = (symmetric_exact(labels, rate, 10, generator()) for rate in (0.2, 0.6))
    where = low != labels
    assert low[where].equal(high[where])
    assert not low.equal(symmetric_exact(labels, 0.2, 10, generator(1)))


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan"), "0.4"])
def test_a_rate_outside_its_range_is_refused(rate: Any) -> None:
    for call in (
        lambda: symmetric_exact(torch.tensor([0, 1]), rate, 2, generator()),
        lambda: asymmetric_exact(torch.tensor([0, 1]), rate, {0: 1}, generator()),
    ):
        with pytest.raises(ConfigError, match=r"noise\.rate="):
            call()


def test_other_arguments_are_refused() -> None:
    with pytest.raises(ConfigError, match="sample 1 has label 2"):
        symmetric_exact(torch.tensor([0, 2]), 0.4, 2, generator())
    with pytest.raises(ConfigError, match="mapped to itself"):
        asymmetric_exact(torch.tensor([0, 1]), 0.4, {0: 0}, generator())
    with pytest.raises(ConfigError, match="generator"):
        symmetric_exact(torch.tensor([0, 1]), 0.4, 2, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(("noise", "tau"), [("sym_exact", 2), ("asym_exact", 10)])
def test_methods_take_the_values_of_the_noise_that_is_alike(noise: str, tau: float) -> None:
    config = compose(["data=cifar10", f"noise={noise}", "method=phuber_ce"])
    check(config)
    assert config.loss.tau == tau
