"""The estimated share of wrong labels on scores of known origin, and the transition matrix by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from slnlab.analysis.noise_estimate import (
    Column,
    NoiseEstimate,
    Share,
    _share,
    estimate_noise,
    estimate_rate,
    estimate_rate_by_anchors,
    wrong_probability,
)

GIVEN = np.array([0] * 60 + [1] * 40)
SUGGESTED = 1 - GIVEN


@pytest.fixture(scope="module")
def estimate() -> NoiseEstimate:
    """Of class 0 the first 15 labels are wrong, of class 1 the first 10; no label of class 2 is given."""
    generator = np.random.default_rng(0)
    scores = generator.normal(0.2, 0.05, 100)
    for rows in (slice(0, 15), slice(60, 70)):
        scores[rows] += 2
    return estimate_noise(scores, GIVEN, SUGGESTED, num_classes=3)


def test_the_drawn_share_is_found_for_all_and_for_each_class(estimate: NoiseEstimate) -> None:
    assert estimate.rate.value == pytest.approx(0.25, abs=1e-3)
    assert estimate.of_given[0].value == pytest.approx(0.25, abs=1e-3)
    assert estimate.of_given[1].value == pytest.approx(0.25, abs=1e-3)
    assert estimate.of_given[2] is None
    assert np.flatnonzero(estimate.suspected).tolist() == [*range(15), *range(60, 70)]


def test_the_interval_of_separate_scores_is_that_of_a_drawn_proportion(estimate: NoiseEstimate) -> None:
    """A quarter of all 100 labels, and of the 60 labels 0."""
    for share, size in ((estimate.rate, 100), (estimate.of_given[0], 60)):
        wilson = binomtest(size // 4, size).proportion_ci(method="wilson")
        assert tuple(share) == pytest.approx((0.25, wilson.low, wilson.high), abs=2e-3)


def test_one_rate_is_that_of_the_whole_estimate(estimate: NoiseEstimate) -> None:
    scores = np.random.default_rng(0).normal(0.5, 0.3, 400)
    given = np.repeat([0, 1], 200)
    assert estimate_rate(scores, given) == estimate_noise(scores, given, 1 - given, num_classes=2).rate


@pytest.mark.parametrize(
    ("wrong", "low", "high"),
    [
        (np.zeros(5), 0, 0.4345),  # Wilson: z² / (n + z²) = 3.8416 / 8.8416
        (np.ones(5), 0.5655, 1),
        (np.ones(1), 0.2065, 1),  # n / (n + z²) = 1 / 4.8416
        (np.full(20, 0.04), 0, 0.2222),  # (.04 + .09604 + 1.96·√(.00192 + .00240)) / 1.19208
    ],
)
def test_a_share_without_wrong_or_without_right_labels_is_uncertain_too(wrong: Column, low: float, high: float) -> None:
    share = _share(wrong)
    assert share.value == wrong.mean()
    assert share[1:] == pytest.approx((low, high), abs=1e-4)


def test_the_interval_leaves_undecided_labels_open() -> None:
    """Overlapping halves: the interval is far wider than chance, ±3 %."""
    scores = np.random.default_rng(0).normal(0, 1, 1000) + 1.5 * (np.arange(1000) < 500)
    rate = estimate_rate(scores, np.zeros(1000, int))
    wrong = wrong_probability(scores, np.zeros(1000, int))
    assert (rate.low, rate.high) == ((wrong > 0.9).mean(), (wrong >= 0.1).mean())
    assert rate.low < 0.4 < 0.5 < rate.high


def test_the_rate_by_anchor_points_by_hand() -> None:
    """T = (.8 .2; .3 .7). Twelve labels 0 and eight labels 1 are π T of π = (.6, .4), so .6·.2 + .4·.3 are wrong."""
    predictions = torch.tensor([[0.8, 0.2]] * 12 + [[0.3, 0.7]] * 8)
    given = torch.tensor([0] * 12 + [1] * 8)
    assert tuple(estimate_rate_by_anchors(predictions, given)) == pytest.approx((0.24, 0.24, 0.24))
    predictions[:3] = torch.tensor([0.99, 0.01])  # the anchor of class 0 comes after int(.3·12) = 3 others
    predictions[3] = torch.tensor([0.9, 0.1])  # π of (.9 .1; .3 .7) is (.5, .5), so .5·.1 + .5·.3 are wrong
    rate = estimate_rate_by_anchors(predictions, given)
    assert rate.value == pytest.approx(0.2)
    surest = 0.3 / 0.69  # π_0 of (.99 .01; .3 .7), from .99 π_0 + .3 (1 − π_0) = .6
    assert rate.low == pytest.approx(surest * 0.01 + (1 - surest) * 0.3, abs=1e-6)
    assert rate.high == pytest.approx(0.24), "some places further on"


def test_a_class_that_is_never_given_does_not_count() -> None:
    predictions = torch.tensor([[0.9, 0.1, 0.0]] * 5 + [[0.1, 0.9, 0.0]] * 5)
    rate = estimate_rate_by_anchors(predictions, torch.tensor([0] * 5 + [1] * 5))
    assert rate.value == pytest.approx(0.1)


def test_the_transition_matrix_by_hand(estimate: NoiseEstimate) -> None:
    """True 0: 45 kept, 10 given as 1. True 1: 30 kept, 15 given as 0."""
    expected = [[45 / 55, 10 / 55, 0], [15 / 45, 30 / 45, 0], [0, 0, 1]]
    np.testing.assert_allclose(estimate.transition, expected, atol=1e-3)


def test_the_surest_labels_are_not_wrong_and_the_probability_never_falls() -> None:
    """A wide component takes the tail below a narrow one."""
    generator = np.random.default_rng(1)
    scores = np.sort(np.concatenate([generator.normal(0, 0.02, 300), generator.normal(0.2, 1.0, 100)]))
    found = wrong_probability(scores, np.zeros(400, int))
    assert (np.diff(found) >= 0).all()
    assert found[0] < 0.5 < found[-1]


def test_a_class_that_is_learned_later_is_not_taken_for_wrong() -> None:
    """A fifth of each class is wrong. Right labels of class 1 lie nearer to the wrong ones than to those of class 0."""
    given = np.repeat([0, 1], 200)
    wrong = np.tile(np.arange(200) < 40, 2)
    scores = np.random.default_rng(0).normal(np.where(wrong, 4.0, np.where(given == 0, 0.0, 2.5)), 0.1)
    assert estimate_rate(scores, given).value == pytest.approx(0.2, abs=0.01)
    assert estimate_rate(scores, np.zeros(400, int)).value > 0.5, "one mixture of all labels"
    assert ((wrong_probability(scores, given) > 0.5) == wrong).all()


def test_a_rare_class_is_judged_by_the_mixture_of_all_labels() -> None:
    """Its five labels alone would be split in two."""
    given = np.repeat([0, 1], [195, 5])
    scores = np.random.default_rng(0).normal(0.2, 0.05, 200) + 2 * (np.arange(200) < 50)
    estimate = estimate_noise(scores, given, 1 - given, num_classes=2)
    assert estimate.of_given[1] == Share(pytest.approx(0, abs=1e-3), 0, pytest.approx(0.4345, abs=2e-3))


def test_samples_that_training_never_saw_do_not_count() -> None:
    """Oversampling may leave samples out for a whole short run."""
    seen = np.random.default_rng(0).normal(0, 0.1, 200) + 2 * (np.arange(200) < 50)
    scores = np.concatenate([seen, np.full(300, -np.inf)])
    estimate = estimate_noise(scores, np.repeat([0, 1], [200, 300]), np.zeros(500, int), num_classes=2)
    alone = estimate_noise(seen, np.zeros(200, int), np.zeros(200, int), num_classes=2)
    assert estimate.rate == alone.rate
    assert estimate.rate.value == pytest.approx(0.25, abs=1e-3)
    assert estimate.of_given == [alone.rate, None]
    assert (estimate.wrong[200:] == 0).all()
    assert estimate_rate(scores, np.zeros(500, int)) == alone.rate
    assert estimate_rate(np.full(3, -np.inf), np.zeros(3, int)) == Share(0, 0, 1)


def test_an_infinite_score_counts_as_the_largest_finite_one() -> None:
    scores = np.array([0.0, 0.1, 0.05, 3.0, 3.1, np.inf, -np.inf])
    assert (wrong_probability(scores, np.zeros(7, int)) > 0.5).tolist() == [
        False,
        False,
        False,
        True,
        True,
        True,
        False,
    ]


def test_the_precision_is_the_mean_probability_of_the_suspected() -> None:
    wrong = np.array([0.9, 0.7, 0.4, 0.0])
    found = NoiseEstimate(wrong, Share(0.5, 0.4, 0.6), [], np.eye(2))
    assert found.precision == pytest.approx(0.8)
    assert str(found) == (
        "about 50 % (40 to 60) of your labels are wrong; 2 of 4 are suspected, and about 80 % of these are wrong"
    )
    assert found._replace(cut=np.array([True, False, False, True])).precision == pytest.approx(0.45)
    assert found._replace(wrong=np.zeros(4)).precision is None


def test_a_share_is_read_as_in_a_sentence() -> None:
    assert str(Share(0.24, 0.2, 0.281)) == "24 % (20 to 28)"
