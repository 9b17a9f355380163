"""Estimates of the transition matrix from predictions of noisy labels, and their comparison with the true matrix."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from math import ceil
from typing import Any, Literal

import torch
from torch import Tensor

from slnlab.errors import ConfigError
from slnlab.losses._check import ROW_SUM_TOLERANCE, check_transition
from slnlab.record.result import TransitionUsed

log = logging.getLogger(__name__)


def anchor_points(probabilities: Tensor, drop_above: float | None = 0.97) -> Tensor:
    """The anchor point of each class i: the sample with the largest S_i after outliers are dropped.

    Outliers are samples from the percentile q = `drop_above` of S_i on. The anchor thus has rank ⌈q·(N − 1)⌉ − 1 in
    ascending order, from 0, as in the authors' code. Classes drop their outliers independently. Among samples tied
    with the anchor the first is taken. The authors' code also drops samples tied with an outlier: a class whose S_i is
    saturated on most of its samples then gets a sample of another class.

    Args:
        probabilities: (N, C) softmax outputs S.
        drop_above: q in (0, 1); None: no sample is dropped.

    Returns:
        (C,) int64 on the CPU, rows of `probabilities`.

    Raises:
        ConfigError: `probabilities` is no table of probabilities, or `drop_above` is out of range.
    """
    s = _check_probabilities(probabilities)
    rank = len(s) - 1
    if drop_above is not None:
        if not 0.0 < drop_above < 1.0:
            raise ConfigError(f"drop_above = {drop_above}, but it must be in (0, 1), or None")
        rank = max(ceil(drop_above * rank - 1e-9) - 1, 0)  # 0.07 · 100 is 7.000000000000001
    ties = s == s.kthvalue(rank + 1, dim=0).values
    return torch.from_numpy(ties.numpy().argmax(axis=0))  # torch.argmax does not promise the first


def estimate_transition(probabilities: Tensor, drop_above: float | None = 0.97) -> Tensor:
    """Transition matrix T̂ from the predictions of a network trained on the given labels (Patrini et al., 2017).

    Row T̂_i is S at the anchor point of class i (:func:`anchor_points`). The network predicts the distribution of the
    *given* label, so at a sample surely of class i it predicts row i. The authors' code uses the percentile rule on
    CIFAR-10 but not on CIFAR-100 (`drop_above=None`).

    Args:
        probabilities: (N, C) softmax outputs S on the training samples.
        drop_above: in (0, 1), or None; see :func:`anchor_points`.

    Returns:
        (C, C) float64 on the CPU; rows sum to 1; T̂[i, j] estimates P(given j | true i). The matrix need neither have
        a dominant diagonal nor be invertible.

    Raises:
        ConfigError: `probabilities` is no table of probabilities, or `drop_above` is out of range.
    """
    rows = probabilities[anchor_points(probabilities, drop_above).to(probabilities.device)].detach().cpu().double()
    return rows / rows.sum(dim=1, keepdim=True)


@dataclass(frozen=True)
class TransitionComparison:
    """Errors of an estimated transition matrix against the true one."""

    max_error: float
    """The largest |T̂_ij − T_ij|, in [0, 1]."""

    worst: tuple[int, int]
    """Entry of the largest error: (true class, given class)."""

    mean_error: float
    """The mean of |T̂_ij − T_ij| over all C² entries."""

    row_l1: list[float]
    """For each true class i, Σ_j |T̂_ij − T_ij|, in [0, 2]: twice the total variation between the distributions."""

    def __str__(self) -> str:
        i, j = self.worst
        hardest = max(range(len(self.row_l1)), key=self.row_l1.__getitem__)
        return (
            f"largest error {self.max_error:.4f} (true {i}, given {j}), mean {self.mean_error:.4f}; L1 error of a "
            f"row {sum(self.row_l1) / len(self.row_l1):.4f} on average, {self.row_l1[hardest]:.4f} at most (true "
            f"{hardest})"
        )


def compare(estimate: Any, true: Any) -> TransitionComparison:
    """Compare an estimated transition matrix with the true one, e.g. ``NoiseRecord.transition_matrix``.

    Args:
        estimate, true: (C, C), T[i, j] = P(given j | true i).

    Raises:
        ConfigError: a matrix is no transition matrix, or their sizes differ.
    """
    a, b = check_transition(estimate, "estimate"), check_transition(true, "true")
    if a.shape != b.shape:
        raise ConfigError(f"compare: the estimate has {len(a)} classes, the true matrix {len(b)}")
    error = (a - b).abs()
    worst = int(error.argmax())
    return TransitionComparison(
        max_error=float(error.max()),
        worst=(worst // len(a), worst % len(a)),
        mean_error=float(error.mean()),
        row_l1=error.sum(dim=1).tolist(),
    )


def transition_used(
    source: Literal["known", "estimated", "file", "learned"], matrix: Tensor, known: Tensor | None
) -> TransitionUsed:
    """The entry of the result for the matrix (C, C) of a method, beside the one of the training labels, if known."""
    error = None if known is None else compare(matrix, known)
    if error and source != "known":
        log.info("transition matrix (%s) against the true one: %s", source, error)
    return TransitionUsed(
        source=source,
        matrix=matrix.tolist(),
        max_error=error.max_error if error else None,
        mean_error=error.mean_error if error else None,
        row_l1=error.row_l1 if error else None,
    )


def _check_probabilities(probabilities: Tensor) -> Tensor:
    """The probabilities (N, C) on the CPU, in float32 or float64.

    Raises:
        ConfigError: the shape, the range or the sum of a row is wrong.
    """
    if probabilities.ndim != 2 or not len(probabilities) or probabilities.shape[1] < 2:
        raise ConfigError(f"probabilities: have shape {tuple(probabilities.shape)}, but must have (N, C), N ≥ 1, C ≥ 2")
    s = probabilities.detach().cpu()
    s = s if s.dtype == torch.float64 else s.float()
    if not bool((s >= 0).all()):  # NaN too
        raise ConfigError("probabilities: hold numbers that are negative or NaN; are they logits?")
    # Half precision keeps three digits of each number.
    tolerance = 0.02 if probabilities.dtype in (torch.float16, torch.bfloat16) else ROW_SUM_TOLERANCE
    sums = s.sum(dim=1)
    wrong = ~((sums - 1).abs() <= tolerance)
    if wrong.any():
        sample = int(wrong.nonzero()[0])
        raise ConfigError(f"probabilities: sample {sample} sums to {float(sums[sample]):.6g}, but it must be 1")
    return s
