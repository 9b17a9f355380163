"""Comparisons of means: paired t, Welch's test from summary values, Holm's correction. Pure functions of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from statistics import fmean, stdev
from typing import Literal

from scipy.special import stdtr, stdtrit

from slnlab.errors import ConfigError

Verdict = Literal["agrees", "above", "below", "not run"]


@dataclass(frozen=True)
class Summary:
    """Summary of n independent values.

    Args:
        mean: of the values.
        std: sample standard deviation (ddof 1), at least 0; None for a single value.
        n: number of values, at least 1.

    Raises:
        ConfigError: `n` or `std` is out of range, or `std` is missing or superfluous.
    """

    mean: float
    std: float | None
    n: int

    def __post_init__(self) -> None:
        if self.n < 1 or (self.std is None) != (self.n == 1) or not (self.std is None or 0 <= self.std < float("inf")):
            raise ConfigError(
                f"mean {self.mean}, std {self.std}, n {self.n}: n is at least 1; std is at least 0, or None if n is 1"
            )

    @classmethod
    def of(cls, values: Sequence[float]) -> Summary:
        """Summary of at least one value.

        Raises:
            ConfigError: there is no value.
        """
        if not values:
            raise ConfigError("a mean needs at least one value")
        return cls(fmean(values), stdev(values) if len(values) > 1 else None, len(values))


LEVEL = 0.95
"""Confidence level of every interval and test."""


@dataclass(frozen=True)
class Difference:
    """A difference of two means with its confidence interval, in the unit of the values."""

    mean: float
    low: float
    high: float
    p: float
    """Two-sided p-value of no difference, in [0, 1]."""
    n: int
    """Number of pairs; 0 for unpaired values."""


def paired(differences: Sequence[float]) -> Difference | None:
    """Mean difference over pairs, with Student's 95 % interval and the paired t-test (n − 1 degrees of freedom).

    The differences count as independent draws of one normal distribution.

    Returns:
        None for fewer than two pairs, which have no interval, and for equal differences other than 0. Accuracies are
        multiples of 1/N, so that a few differences are often equal by chance; the test would be certain of them.
    """
    if len(differences) < 2:
        return None
    mean, error = fmean(differences), stdev(differences) / sqrt(len(differences))
    if 0 <= error <= 1e-9 * abs(mean) and mean:
        return None
    return _difference(mean, error, len(differences) - 1, len(differences))


def welch(ours: Summary, theirs: Summary) -> Difference | None:
    """Mean of `ours − theirs` of independent samples with unequal variances (Welch, 1947).

    A single value has no variance of its own: it takes that of the other sample (Student's test of a new observation).

    Args:
        ours, theirs: mean, std and n.

    Returns:
        None for two single values, which cannot be compared.
    """
    mean = ours.mean - theirs.mean
    if ours.std is None or theirs.std is None:
        std, n = (theirs.std, theirs.n) if ours.std is None else (ours.std, ours.n)
        return None if std is None else _difference(mean, std * sqrt(1 + 1 / n), n - 1)
    a, b = ours.std**2 / ours.n, theirs.std**2 / theirs.n
    # Welch–Satterthwaite; without spread the degrees of freedom do not matter.
    freedom = (a + b) ** 2 / (a**2 / (ours.n - 1) + b**2 / (theirs.n - 1)) if a + b else 1
    return _difference(mean, sqrt(a + b), freedom)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for many comparisons (Holm, 1979), in the order given. No independence is assumed.

    The k-th smallest of m (k from 0) is multiplied by m − k, never falls below a smaller one, and ends at 1.
    """
    corrected = [1.0] * len(p_values)
    least = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = least
    return corrected


def verdict(ours: Summary | None, published: Summary) -> Verdict:
    """Verdict on a measured mean beside a published one, by Welch's test.

    `agrees` means that the test finds no difference; few runs with a wide spread agree with much.

    Args:
        ours: None: not run.
        published: mean, std and n as published, in the same unit.

    Raises:
        ConfigError: both are single values.
    """
    if ours is None:
        return "not run"
    found = welch(ours, published)
    if found is None:
        raise ConfigError("two single values cannot be compared: the published mean needs its std and n")
    if found.low <= 0 <= found.high:
        return "agrees"
    return "above" if found.mean > 0 else "below"


def _difference(mean: float, error: float, freedom: float, n: int = 0) -> Difference:
    """The difference from its standard error. Values without spread have an interval of width 0."""
    half = float(stdtrit(freedom, (1 + LEVEL) / 2)) * error
    if error > 0 and isfinite(mean / error):
        p = 2 * float(stdtr(freedom, -abs(mean) / error))
    else:
        p = 1.0 if mean == 0 else 0.0
    return Difference(mean, mean - half, mean + half, p, n)
