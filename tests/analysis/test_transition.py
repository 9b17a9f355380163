"""The estimated transition matrix: anchor points by hand, and its distance from the true one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from slnlab.analysis.transition import anchor_points, compare, estimate_transition
from slnlab.errors import ConfigError
from slnlab.noise import NoiseRecord, symmetric

FIVE = torch.tensor(
    [
        [0.70, 0.20, 0.10],
        [0.10, 0.65, 0.25],
        [0.95, 0.00, 0.05],
        [0.05, 0.90, 0.05],
        [0.30, 0.10, 0.60],
    ],
    dtype=torch.float64,
)


def test_rows_are_those_of_the_most_certain_sample_by_hand() -> None:
    assert anchor_points(FIVE, drop_above=None).tolist() == [2, 3, 4]
    assert torch.equal(estimate_transition(FIVE, drop_above=None), FIVE[[2, 3, 4]])


def test_the_most_certain_samples_are_dropped_per_class() -> None:
    """Of five samples the 97th percentile is the largest. Sample 2, dropped for class 0, still has its 0.95 there.

    Had class 0 wiped out what it dropped, the row of a class that chose sample 2 would lack it.
    """
    assert anchor_points(FIVE).tolist() == [0, 1, 1]
    torch.testing.assert_close(estimate_transition(FIVE), FIVE[[0, 1, 1]], rtol=1e-15, atol=0)
    # 0.5: the third of five (0.30, 0.20, 0.10) and all above go, and leave 0.10, 0.10 and 0.05 (twice; the first).
    assert anchor_points(FIVE, drop_above=0.5).tolist() == [1, 4, 2]
    estimate = estimate_transition(FIVE, drop_above=0.5)
    torch.testing.assert_close(estimate[2], FIVE[2], rtol=1e-15, atol=0)
    assert estimate[2, 0] == pytest.approx(0.95), "though sample 2 was dropped for class 0"


def test_the_callers_probabilities_stay_unchanged() -> None:
    before = FIVE.clone()
    estimate_transition(FIVE).zero_()
    assert torch.equal(FIVE, before)


@pytest.mark.parametrize(("size", "kept"), [(2, 0), (3, 1), (100, 96), (101, 96), (102, 97), (1000, 969)])
def test_the_percentile_of_many_samples_by_hand(size: int, kept: int) -> None:
    """The order statistic ⌈0.97(N − 1)⌉ of 0 … N−1 (1, 2, 97, 97, 98, 970) and all above are dropped."""
    rising = torch.arange(size, dtype=torch.float64) / size
    probabilities = torch.stack([rising, 1 - rising], dim=1)
    shuffle = torch.randperm(size, generator=torch.Generator().manual_seed(0))
    assert rising[rising < np.percentile(rising, 97, method="higher")].max() == rising[kept]
    (of_rising, of_falling) = anchor_points(probabilities[shuffle])
    assert shuffle[of_rising] == kept
    assert shuffle[of_falling] == size - 1 - kept


def test_a_saturated_class_keeps_its_row() -> None:
    """Class 0 is learned without a doubt, S_0 = 1 in float32 on a third of the samples: they are no outliers."""
    saturated = torch.tensor([[1.0, 0.0, 0.0]]).repeat(30, 1)
    others = torch.tensor([[0.1, 0.6, 0.3], [0.0, 0.2, 0.8]]).repeat(30, 1)
    estimate = estimate_transition(torch.cat([others, saturated]))
    expected = torch.tensor([[1.0, 0.0, 0.0], [0.1, 0.6, 0.3], [0.0, 0.2, 0.8]], dtype=torch.float64)
    torch.testing.assert_close(estimate, expected, rtol=1e-6, atol=0)


def test_few_samples_still_give_rows_of_samples() -> None:
    assert torch.equal(estimate_transition(torch.full((7, 2), 0.5)), torch.full((2, 2), 0.5, dtype=torch.float64))
    torch.testing.assert_close(estimate_transition(FIVE[:1]), FIVE[[0, 0, 0]], rtol=1e-15, atol=0)
    assert anchor_points(FIVE, drop_above=1e-6).tolist() == [3, 2, 2], "the smallest of each, the first of equals"


def test_the_first_of_equal_samples_is_taken() -> None:
    assert anchor_points(torch.tensor([[0.4, 0.6], [0.6, 0.4], [0.6, 0.4], [0.4, 0.6]]), None).tolist() == [1, 0]


def test_exact_noisy_posteriors_give_the_true_matrix() -> None:
    """S = onehot(true)·T for every sample: whichever is the anchor, its row is T's."""
    true = torch.tensor([[0.6, 0.4, 0.0], [0.1, 0.8, 0.1], [0.0, 0.3, 0.7]], dtype=torch.float64)
    predicted = true[torch.arange(300) % 3]
    for drop_above in (None, 0.97):
        comparison = compare(estimate_transition(predicted, drop_above), true)
        assert comparison.max_error == pytest.approx(0, abs=1e-15), drop_above


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_rows_sum_to_one_also_from_coarse_probabilities(dtype: torch.dtype) -> None:
    coarse = torch.randn(50, 7, generator=torch.Generator().manual_seed(0)).softmax(1).to(dtype)
    estimate = estimate_transition(coarse)
    assert estimate.dtype == torch.float64
    torch.testing.assert_close(estimate.sum(1), torch.ones(7, dtype=torch.float64), rtol=1e-14, atol=0)


def test_a_percentile_equal_to_a_sample_drops_that_sample() -> None:
    """7 % of 100 steps is the sample 7, although 0.07 · 100 is 7.000000000000001 in floating point."""
    rising = torch.arange(101, dtype=torch.float64) / 101
    assert anchor_points(torch.stack([rising, 1 - rising], dim=1), drop_above=0.07).tolist() == [6, 94]


@pytest.mark.parametrize("drop_above", [0.0, 1.0, 97, -0.1, float("nan")])
def test_a_percentile_outside_its_range_is_refused(drop_above: float) -> None:
    with pytest.raises(ConfigError, match=r"drop_above = .*\(0, 1\)"):
        anchor_points(FIVE, drop_above)


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        (torch.ones(3), r"shape \(3,\)"),
        (torch.empty(0, 3), r"shape \(0, 3\)"),
        (torch.ones(3, 1), r"shape \(3, 1\)"),
        (torch.tensor([[0.5, 0.5], [2.0, -1.0]]), "logits"),
        (torch.tensor([[0.5, 0.5], [float("nan"), 1.0]]), "NaN"),
        (torch.tensor([[0.5, 0.5], [2.0, 3.0]]), "sample 1 sums to 5"),
    ],
)
def test_arrays_that_are_no_probabilities_are_refused(probabilities: Tensor, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^probabilities: .*{message}"):
        estimate_transition(probabilities)


def test_the_comparison_of_two_matrices_by_hand() -> None:
    true = torch.tensor([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.25, 0.25, 0.5]])
    estimate = torch.tensor([[0.75, 0.25, 0.0], [0.0, 1.0, 0.0], [0.25, 0.125, 0.625]])
    comparison = compare(estimate, true)
    assert comparison.max_error == 0.25
    assert comparison.worst == (0, 0)
    assert comparison.mean_error == pytest.approx((0.25 + 0.25 + 0.125 + 0.125) / 9)
    assert comparison.row_l1 == [0.5, 0.0, 0.25]
    assert compare(true, estimate) == comparison
    assert "0.2500 (true 0, given 0)" in str(comparison)
    worst = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    assert compare(worst, torch.eye(2)).row_l1 == [2.0, 0.0]
    assert compare(worst.flip(0, 1), torch.eye(2)).worst == (1, 0), "true class first"


def test_an_estimate_is_compared_with_the_matrix_of_a_noise_record() -> None:
    labels = torch.arange(10).repeat(100)
    given = symmetric(labels, 0.4, 10, torch.Generator().manual_seed(0))
    record = NoiseRecord(true=labels, given=given, num_classes=10, name="symmetric", rate=0.4, seed=0)
    nominal = torch.full((10, 10), 0.4 / 9) + (0.6 - 0.4 / 9) * torch.eye(10)
    counts = [int(((labels == 3) & (given == j)).sum()) for j in range(10)]
    expected = sum(abs(count / 100 - (0.6 if j == 3 else 0.4 / 9)) for j, count in enumerate(counts))
    assert compare(nominal, record.transition_matrix).row_l1[3] == pytest.approx(expected, abs=1e-6)


def test_matrices_of_different_shape_are_not_compared() -> None:
    with pytest.raises(ConfigError, match="2 classes, the true matrix 3"):
        compare(torch.eye(2), torch.eye(3))
    with pytest.raises(ConfigError, match="estimate: row 0 sums to 2"):
        compare(torch.ones(2, 2), torch.eye(2))
