from __future__ import annotations

from typing import Any

import pytest
import torch

from slnlab.errors import ConfigError
from slnlab.noise import instance_dependent
from slnlab.noise._check import exact_count

# By hand:             candidate  score   rank
LABELS = torch.tensor([0, 1, 2, 0, 1])
PROBABILITIES = torch.tensor(
    [
        [0.7, 0.2, 0.1],  # 1          .2      5th
        [0.5, 0.4, 0.1],  # 0          .5      2nd
        [0.1, 0.3, 0.6],  # 1          .3      3rd
        [0.1, 0.1, 0.8],  # 2          .8      1st
        [0.3, 0.4, 0.3],  # 0 (0 = 2)  .3      4th: sample 2 has the same score and comes first
    ]
)
BY_HAND = {
    0.0: [0, 1, 2, 0, 1],
    0.1: [0, 1, 2, 0, 1],
    0.2: [0, 1, 2, 2, 1],
    0.4: [0, 0, 2, 2, 1],
    0.6: [0, 0, 1, 2, 1],
    0.8: [0, 0, 1, 2, 0],
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("rate", BY_HAND)
def test_a_small_matrix_by_hand(rate: float, dtype: torch.dtype) -> None:
    probabilities = PROBABILITIES.to(dtype)
    given = instance_dependent(LABELS, rate, probabilities)
    assert given.dtype == torch.int64
    assert given.tolist() == BY_HAND[rate]
    assert probabilities.equal(PROBABILITIES.to(dtype))


@pytest.mark.parametrize(
    ("rate", "num_samples", "count"),
    [(0.29, 100, 29), (0.57, 100, 57), (0.5, 7, 3), (0.999, 10, 9), (0.0, 10, 0), (0.4, 50_000, 20_000)],
)
def test_exactly_the_rate_times_n_flip(rate: float, num_samples: int, count: int) -> None:
    assert exact_count(rate, num_samples) == count
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (num_samples,), generator=generator)
    probabilities = torch.rand(num_samples, 4, generator=generator).softmax(dim=1)
    assert int((instance_dependent(labels, rate, probabilities) != labels).sum()) == count


def test_the_count_is_the_exact_products_floor_for_every_percentage() -> None:
    for num_samples in (100, 45_000, 50_000, 60_000, 1_281_167):
        for percent in range(100):
            assert exact_count(percent / 100, num_samples) == percent * num_samples // 100


def test_flipped_sets_are_nested_across_rates() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (1000,), generator=generator)
    # Few distinct scores, so that many are equal.
    probabilities = torch.randint(1, 4, (1000, 10), generator=generator).float()
    probabilities /= probabilities.sum(dim=1, keepdim=True)
    previous = labels
    for rate in (0.1, 0.2, 0.4, 0.8):
        given = instance_dependent(labels, rate, probabilities)
        flipped = previous != labels
        assert given[flipped].equal(previous[flipped])
        previous = given


def test_the_highest_scores_flip_in_data_larger_than_a_block() -> None:
    num_samples = 20_001
    labels = torch.arange(num_samples) % 3
    # Sample i is mistaken for the next class with a probability that falls with i.
    mistaken = torch.linspace(0.9, 0.1, num_samples, dtype=torch.float64)
    probabilities = torch.zeros(num_samples, 3, dtype=torch.float64)
    probabilities[torch.arange(num_samples), (labels + 1) % 3] = mistaken
    probabilities[torch.arange(num_samples), labels] = 1 - mistaken
    given = instance_dependent(labels, 0.85, probabilities)
    first = 17_000
    assert given[:first].equal((labels[:first] + 1) % 3)
    assert given[first:].equal(labels[first:])


def test_equal_scores_flip_in_the_order_of_samples() -> None:
    labels = torch.zeros(20_000, dtype=torch.int64)
    given = instance_dependent(labels, 0.3, torch.full((20_000, 4), 0.25))
    assert given[:6000].eq(1).all()
    assert given[6000:].eq(0).all()


def test_a_flip_never_keeps_the_own_class() -> None:
    # All the mass on the true class: the candidate is the best of the zeros.
    given = instance_dependent(torch.tensor([0, 1]), 0.999999, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    assert given.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        (PROBABILITIES[:4], "N=5"),
        (PROBABILITIES[:, :1], "C >= 2"),
        (PROBABILITIES[0], "shape"),
        (PROBABILITIES.tolist(), "list"),
        (torch.ones(5, 3, dtype=torch.int64), "int64"),
        (PROBABILITIES * 150, "row 0 .*not logits or sums"),
        (PROBABILITIES.log(), "row 0 .*not logits or sums"),
        (torch.cat([PROBABILITIES[:3], torch.tensor([[0.5, torch.nan, 0.5]]), PROBABILITIES[4:]]), "row 3"),
        (torch.cat([PROBABILITIES[:4], torch.tensor([[1.5, -0.25, -0.25]])]), "row 4"),
        (PROBABILITIES.to("meta"), "CPU"),
    ],
)
def test_an_invalid_probability_matrix_is_refused(probabilities: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        instance_dependent(LABELS, 0.4, probabilities)
