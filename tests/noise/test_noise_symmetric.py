from __future__ import annotations

import pytest
import torch
from scipy.stats import binomtest, chisquare
from torch import Tensor

from slnlab.noise import symmetric


def spoil(labels: Tensor, rate: float, num_classes: int, seed: int = 0) -> Tensor:
    return symmetric(labels, rate, num_classes, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rate", [0.02, 0.2, 0.5, 0.8])
@pytest.mark.parametrize("num_classes", [2, 10])
def test_the_noise_rate_is_the_whole_rate(num_classes: int, rate: float) -> None:
    # If a flip could keep the class, 10 classes would show 0.9 ε and two classes ε / 2.
    labels = torch.arange(num_classes).repeat(50_000 // num_classes)
    wrong = int((spoil(labels, rate, num_classes) != labels).sum())
    assert binomtest(wrong, len(labels), rate).pvalue > 1e-3


def test_two_classes_flip_to_each_other() -> None:
    labels = torch.zeros(1000, dtype=torch.int64)
    given = spoil(labels, 0.999, 2)
    assert (given == 1).sum() > 980


def test_flips_are_uniform_over_the_other_classes() -> None:
    num_classes = 7
    labels = torch.arange(num_classes).repeat(20_000)
    given = spoil(labels, 0.5, num_classes)
    assert given.dtype == torch.int64
    for true_class in range(num_classes):
        counts = torch.bincount(given[labels == true_class], minlength=num_classes)
        assert len(counts) == num_classes
        others = torch.cat([counts[:true_class], counts[true_class + 1 :]])
        assert chisquare(others.numpy()).pvalue > 1e-3


def test_samples_flip_independently_of_their_position() -> None:
    labels = torch.zeros(40_000, dtype=torch.int64)
    wrong = (spoil(labels, 0.5, 10) != labels).double()
    both = (wrong[1:] * wrong[:-1]).sum()
    assert binomtest(int(both), len(labels) - 1, 0.25).pvalue > 1e-3


def test_the_generator_determines_the_flips() -> None:
    labels = torch.arange(10).repeat(100)
    assert spoil(labels, 0.4, 10, seed=1).equal(spoil(labels, 0.4, 10, seed=1))
    assert not spoil(labels, 0.4, 10, seed=1).equal(spoil(labels, 0.4, 10, seed=2))
    generator = torch.Generator().manual_seed(1)
    first, second = (symmetric(labels, 0.4, 10, generator) for _ in range(2))
    assert not first.equal(second)


def test_a_higher_rate_flips_a_superset_to_the_same_classes() -> None:
    labels = torch.arange(10).repeat(500)
    low, high = spoil(labels, 0.2, 10), spoil(labels, 0.6, 10)
    flipped = low != labels
    assert flipped.any()
    assert low[flipped].equal(high[flipped])
