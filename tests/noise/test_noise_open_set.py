from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy.stats import chisquare

from slnlab.errors import ConfigError
from slnlab.noise import Replacement, open_set


def replace(num_samples: int, rate: float, num_donors: int, seed: int = 0) -> Replacement:
    labels = torch.zeros(num_samples, dtype=torch.int64)
    return open_set(labels, rate, num_donors, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("num_samples", "rate", "count"), [(1000, 0.4, 400), (100, 0.29, 29), (7, 0.5, 3), (10, 0.0, 0)]
)
def test_the_count_is_exact_and_nothing_is_drawn_twice(num_samples: int, rate: float, count: int) -> None:
    index, donor = replace(num_samples, rate, num_donors=500)
    assert index.dtype == donor.dtype == torch.int64
    assert index.shape == donor.shape == (count,)
    assert len(set(index.tolist())) == len(set(donor.tolist())) == count
    assert index.tolist() == sorted(index.tolist())
    if count:
        assert 0 <= int(index.min()) <= int(index.max()) < num_samples
        assert 0 <= int(donor.min()) <= int(donor.max()) < 500


@pytest.mark.parametrize(("num_donors", "uses"), [(400, {1}), (401, {0, 1}), (150, {2, 3}), (100, {4}), (1, {400})])
def test_donors_are_reused_evenly(num_donors: int, uses: set[int]) -> None:
    donor = replace(1000, 0.4, num_donors).donor
    assert set(torch.bincount(donor, minlength=num_donors).tolist()) == uses


def test_images_and_donors_are_drawn_uniformly_and_independently() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.zeros(6, dtype=torch.int64)
    pairs = torch.zeros(6, 4)
    for _ in range(4000):
        index, donor = open_set(labels, 0.34, 4, generator)
        pairs[index, donor] += 1
    assert pairs.sum() == 8000
    assert chisquare(pairs.flatten().numpy()).pvalue > 1e-3


def test_reused_donors_are_drawn_at_random() -> None:
    # 4 images from 3 donors: the one used twice must not always be the same.
    twice = {int(replace(10, 0.4, 3, seed).donor.mode().values) for seed in range(30)}
    assert twice == {0, 1, 2}


def test_a_higher_rate_replaces_a_superset_by_the_same_donors() -> None:
    low, high = replace(1000, 0.2, 90), replace(1000, 0.6, 90)
    donors = dict(zip(high.index.tolist(), high.donor.tolist(), strict=True))
    assert all(donors[i] == d for i, d in zip(low.index.tolist(), low.donor.tolist(), strict=True))


def test_the_generator_determines_the_draws() -> None:
    first, again, other = replace(1000, 0.2, 500), replace(1000, 0.2, 500), replace(1000, 0.2, 500, seed=1)
    assert first.index.equal(again.index)
    assert first.donor.equal(again.donor)
    assert not first.index.equal(other.index)
    assert not first.donor.equal(other.donor)


@pytest.mark.parametrize("num_donors", [0, -1, 1.5, "3", None, True])
def test_an_impossible_number_of_donors_is_refused(num_donors: Any) -> None:
    with pytest.raises(ConfigError, match="num_donors"):
        replace(10, 0.4, num_donors)
