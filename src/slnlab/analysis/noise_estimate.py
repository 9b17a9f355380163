"""How many labels are wrong: a loss-like score split in two, with intervals, for each class, and as a matrix."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import nnls
from sklearn.isotonic import IsotonicRegression
from torch import Tensor

from slnlab.analysis.mixture import fit_loss_mixture

Column = npt.NDArray[Any]

FEWEST = 20
"""Labels of a class that get a mixture of their own. Rarer classes are judged by that of all labels."""

DECIDED = 0.9
"""P(wrong) or P(right) from which on a label counts as decided. The intervals leave the others open."""

OUTLIERS = 0.3
"""Samples above the anchor point of a class, as a share of its labels: 3 % of all for ten classes (Patrini et al.)."""


class Share(NamedTuple):
    """An estimated share in [0, 1] with the limits of its interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.value:.0f} % ({100 * self.low:.0f} to {100 * self.high:.0f})"


class NoiseEstimate(NamedTuple):
    """Wrong labels among N training labels, estimated without true labels."""

    wrong: Column
    """(N,) float64: probability that the label is wrong. It does not fall with the suspicion."""
    rate: Share
    """Share of wrong labels."""
    of_given: list[Share | None]
    """For each class, the share of wrong labels among its given labels; None: training has seen no such label."""
    transition: Column
    """(C, C) float64: P(given j | true i); rows sum to 1. A class without samples has the unit row."""
    cut: Column | None = None
    """(N,) bool: labels that another rule suspects; None: those that are wrong rather than right."""

    @property
    def suspected(self) -> Column:
        """(N,) bool: labels that are suspected to be wrong."""
        found: Column = self.wrong > 0.5
        return found if self.cut is None else self.cut

    @property
    def precision(self) -> float | None:
        """Estimated share of wrong labels among the suspected ones, in [0, 1]; None if none is suspected."""
        return float(self.wrong[self.suspected].mean()) if self.suspected.any() else None

    def __str__(self) -> str:
        suspected = f"{int(self.suspected.sum()):,} of {len(self.wrong):,} are suspected"
        if self.precision is not None:
            suspected += f", and about {100 * self.precision:.0f} % of these are wrong"
        return f"about {self.rate} of your labels are wrong; {suspected}"


def wrong_probability(suspicions: Column, given: Column) -> Column:
    """The probability (N,) that a label is wrong, which never falls with its suspicion.

    Each given class has a mixture of its own, as in FINE (Kim et al. 2021). A network learns some classes later than
    others, and one mixture of all labels takes those for wrong. Isotonic regression on the suspicions then makes one
    curve of the posteriors, with the same mean.

    Args:
        suspicions: (N,), N ≥ 2, high: suspicious. −∞ marks a sample that training has never seen: it has no part in
            the mixtures, and the probability 0. ∞ counts as the largest finite value.
        given: (N,) given labels in [0, C).
    """
    wrong = np.zeros(len(suspicions))
    seen = suspicions > -np.inf
    finite = suspicions[np.isfinite(suspicions)]
    if len(finite) < 2:
        return wrong
    values, labels = np.minimum(suspicions[seen], finite.max()), given[seen]
    found = _upper(values)
    for label in np.flatnonzero(np.bincount(labels) >= FEWEST):
        rows = labels == label
        found[rows] = _upper(values[rows])
    wrong[seen] = IsotonicRegression(y_min=0, y_max=1).fit_transform(values, found)
    return wrong


def _upper(values: Column) -> Column:
    """Posterior (M,) of the upper one of two Gaussians, see `fit_loss_mixture`, made monotone.

    The wider Gaussian also takes the tail below the narrow one, where labels are surely right.
    """
    posterior = 1 - fit_loss_mixture(torch.from_numpy(values)).clean.double().numpy()
    order = np.argsort(values, kind="stable")
    along = posterior[order]
    lowest = int(along.argmin())
    along[:lowest] = along[lowest]
    posterior[order] = np.maximum.accumulate(along)
    return posterior


def estimate_rate(suspicions: Column, given: Column) -> Share:
    """Estimate the share of wrong labels: the mean of `wrong_probability`, with an interval as of `estimate_noise`."""
    return _share(wrong_probability(suspicions, given)[suspicions > -np.inf])


def _share(wrong: Column) -> Share:
    """The mean of P(wrong), and its interval; see `estimate_noise`. Without a sample it is 0, and may be 1."""
    if not len(wrong):
        return Share(0.0, 0.0, 1.0)
    value = float(wrong.mean())
    low, high = _chance(value, len(wrong))
    undecided = float((wrong > DECIDED).mean()), float((wrong >= 1 - DECIDED).mean())
    return Share(value, max(0.0, min(low, undecided[0])), min(1.0, max(high, undecided[1])))


def _chance(share: float, size: int) -> tuple[float, float]:
    """Wilson's score interval (95 %) of a proportion among `size` drawn labels. It has a width at 0 and 1 too."""
    z = 1.96
    whole = 1 + z**2 / size
    middle = (share + z**2 / (2 * size)) / whole
    half = z * (share * (1 - share) / size + (z / (2 * size)) ** 2) ** 0.5 / whole
    return middle - half, middle + half


def estimate_rate_by_anchors(probabilities: Tensor, given: Tensor) -> Share:
    """Estimate the share of wrong labels by anchor points, Σ_i π_i (1 − T̂_ii).

    Row i of T̂ is the prediction for the anchor point of class i: of the samples by descending S_i, the one after
    `OUTLIERS`·n_i others, for n_i labels i. With ten equal classes this is the anchor of `estimate_transition`. The
    shares π of the true classes are the non-negative least-squares solution of π T̂ = shares of the given classes.

    The interval is that of the anchor's place, ±1.96 standard deviations of a binomial count. It does not cover a wrong
    prediction: T̂ holds for a network that predicts the distribution of the given label and memorises no label.

    Args:
        probabilities: (N, C) softmax outputs S of a network that learned from the given labels.
        given: (N,) given labels in [0, C).
    """
    size, num_classes = probabilities.shape
    counts = torch.bincount(given, minlength=num_classes).double()
    place = OUTLIERS * counts
    spread = 1.96 * (place * (1 - place / size)).sqrt()
    ordered = probabilities.argsort(dim=0, descending=True, stable=True)

    def rate(places: Tensor) -> float:
        rows = ordered.gather(0, places.clamp(0, size - 1).long().unsqueeze(0)).squeeze(0)
        transition = probabilities[rows].double()
        transition = transition / transition.sum(1, keepdim=True)
        true, _ = nnls(transition.T.numpy(), (counts / size).numpy())
        return float(true @ (1 - transition.diagonal().numpy()) / true.sum())

    value, *limits = map(rate, (place, place - spread, place + spread))
    return Share(value, min(value, *limits), max(value, *limits))


def estimate_noise(suspicions: Column, given: Column, suggested: Column, num_classes: int) -> NoiseEstimate:
    """Estimate the shares of wrong labels by `wrong_probability`.

    An interval covers a drawn proportion (95 %, Wilson) and the labels that the mixtures leave undecided: all of them
    may be right, or all wrong. It does not cover a wrong model: two Gaussians fit no score exactly.

    Args:
        suspicions: (N,), N ≥ 2, high: suspicious.
        given: (N,) given labels in [0, C).
        suggested: (N,) labels that are true if the given ones are wrong.
        num_classes: C.
    """
    wrong, seen = wrong_probability(suspicions, given), suspicions > -np.inf
    of_class = [seen & (given == label) for label in range(num_classes)]
    of_given = [_share(wrong[rows]) if rows.any() else None for rows in of_class]
    return NoiseEstimate(wrong, _share(wrong[seen]), of_given, _transition(wrong, given, suggested, num_classes))


def _transition(wrong: Column, given: Column, suggested: Column, num_classes: int) -> Column:
    joint = np.zeros((num_classes, num_classes))  # [true, given]
    np.add.at(joint, (given, given), 1 - wrong)
    np.add.at(joint, (suggested, given), wrong)
    totals = joint.sum(1, keepdims=True)
    matrix: Column = np.where(totals > 0, joint / np.where(totals > 0, totals, 1), np.eye(num_classes))
    return matrix
