"""Intervals, tests and corrections against scipy and hand-worked values."""

from __future__ import annotations

from math import sqrt

import pytest

from slnlab.errors import ConfigError
from slnlab.tables.statistics import Summary, holm, paired, verdict, welch

OURS, THEIRS = [71.2, 68.9, 74.0, 70.3, 69.5], [66.0, 67.1, 68.2, 70.9, 61.4]
DIFFERENCES = [ours - theirs for ours, theirs in zip(OURS, THEIRS, strict=True)]


def test_paired_difference_by_hand():
    # Differences 1, 2, 3: mean 2, std 1, standard error 1/√3. With 2 degrees of freedom the quantile t(97.5 %) is
    # 0.95·√(2/(1 − 0.95²)) = 4.3027, and P(|t| ≥ 2√3) = 1 − t/√(2 + t²) = 1 − √(12/14).
    found = paired([1.0, 2.0, 3.0])
    half = 0.95 * sqrt(2 / (1 - 0.95**2)) / sqrt(3)
    assert (found.mean, found.n) == (2, 3)
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half))
    assert found.p == pytest.approx(1 - sqrt(12 / 14))


def test_paired_difference_is_scipys():
    from scipy.stats import ttest_rel

    expected = ttest_rel(OURS, THEIRS)
    found = paired(DIFFERENCES)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_welch_is_scipys():
    from scipy.stats import ttest_ind

    expected = ttest_ind(OURS, THEIRS[:3], equal_var=False)
    found = welch(Summary.of(OURS), Summary.of(THEIRS[:3]))
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert found.n == 0


def test_a_single_run_takes_the_others_variance():
    # Student's test with equal variances, of which only the larger sample tells.
    from scipy.stats import ttest_ind

    expected = ttest_ind([75.0], THEIRS, equal_var=True)
    assert welch(Summary.of([75.0]), Summary.of(THEIRS)).p == pytest.approx(expected.pvalue)
    assert welch(Summary.of(THEIRS), Summary.of([75.0])).p == pytest.approx(expected.pvalue)
    assert welch(Summary.of([75.0]), Summary.of([76.0])) is None


def test_holm_by_hand():
    # Sorted: 0.005·4 = 0.02, 0.01·3 = 0.03, 0.03·2 = 0.06, 0.04·1 = 0.04, which may not fall below 0.06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == [1, 1]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


def test_values_without_spread():
    same = paired([0.0, 0.0])
    assert (same.mean, same.low, same.high, same.p) == (0, 0, 0, 1)
    assert paired([96.2 - 96.0, 96.6 - 96.4]) is None, "by chance, up to rounding: both are one image of 500"
    assert paired([96.2 - 96.0, 96.8 - 96.4]).p > 0.05
    assert welch(Summary(2.0, 0.0, 3), Summary(1.0, 0.0, 3)).p == 0
    assert paired([-1.0]) is None


def test_verdicts():
    # Equal stds 1 and n 5: standard error √0.4, 8 degrees of freedom, t(97.5 %) = 2.306, half width 1.458.
    paper = Summary(80.0, 1.0, 5)
    assert verdict(Summary(81.45, 1.0, 5), paper) == verdict(Summary(78.55, 1.0, 5), paper) == "agrees"
    assert verdict(Summary(81.47, 1.0, 5), paper) == "above"
    assert verdict(Summary(78.53, 1.0, 5), paper) == "below"
    assert verdict(None, paper) == "not run"
    # One run: t(97.5 %, 4) = 2.776, half width 2.776·√1.2 = 3.041.
    assert verdict(Summary(83.03, None, 1), paper) == "agrees"
    assert verdict(Summary(83.05, None, 1), paper) == "above"
    with pytest.raises(ConfigError, match="two single values"):
        verdict(Summary(1.0, None, 1), Summary(2.0, None, 1))


@pytest.mark.parametrize(("std", "n"), [(None, 2), (1.0, 1), (-1.0, 2), (float("nan"), 2), (None, 0)])
def test_an_impossible_summary_is_refused(std, n):
    with pytest.raises(ConfigError, match="n is at least 1"):
        Summary(1.0, std, n)


def test_impossible_comparisons_are_refused():
    with pytest.raises(ConfigError, match="at least one value"):
        Summary.of([])
