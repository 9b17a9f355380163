"""Symmetric noise that draws from all classes."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import binomtest, chisquare

from slnlab.config import check, compose
from slnlab.errors import ConfigError
from slnlab.noise import symmetric_inclusive


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("rate", "num_classes"), [(0.2, 10), (0.9, 10), (0.5, 2)])
def test_every_cth_drawn_label_is_the_true_one(rate: float, num_classes: int) -> None:
    labels = torch.arange(num_classes).repeat(20_000 // num_classes)
    wrong = int((symmetric_inclusive(labels, rate, num_classes, generator()) != labels).sum())
    assert binomtest(wrong, round(rate * len(labels)), 1 - 1 / num_classes).pvalue > 1e-3


def test_no_more_samples_than_the_share_change_and_the_others_are_uniform() -> None:
    labels = torch.zeros(50_000, dtype=torch.int64)
    counts = torch.bincount(symmetric_inclusive(labels, 0.5, 5, generator()), minlength=5)
    counts[0] -= 25_000  # exactly so many drew none
    assert chisquare(counts.numpy()).pvalue > 1e-3


def test_a_higher_rate_changes_a_superset_to_the_same_classes() -> None:
    labels = torch.arange(10).repeat(500)
    low, high = (symmetric_inclusive(labels, rate, 10, generator()) for rate in (0.2, 0.6))
    where = low != labels
    assert where.any()
    assert low[where].equal(high[where])
    assert symmetric_inclusive(labels, 0.0, 10, generator()).equal(labels)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"noise\.rate="):
        symmetric_inclusive(torch.tensor([0, 1]), 1.0, 2, generator())
    with pytest.raises(ConfigError, match="sample 1 has label 2"):
        symmetric_inclusive(torch.tensor([0, 2]), 0.4, 2, generator())


def test_methods_take_the_values_of_symmetric_noise() -> None:
    config = compose(["data=cifar10", "noise=sym_inclusive", "method=sln"])
    check(config)
    assert config.sln.sigma == 1
