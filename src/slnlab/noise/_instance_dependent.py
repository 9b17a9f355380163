"""Instance-dependent label noise of Chen et al. (2020)."""

from __future__ import annotations

import torch
from torch import Tensor

from slnlab.errors import ConfigError
from slnlab.noise._check import check_labels, check_rate, exact_count

__all__ = ["instance_dependent"]

_ROWS = 8192
# Wide enough for softmax averages stored in half precision, far too narrow for logits or sums over epochs.
_TOLERANCE = 1e-2


def instance_dependent(labels: Tensor, rate: float, probabilities: Tensor) -> Tensor:
    """Flip the int(rate · N) samples most easily mistaken, each to its likeliest wrong class.

    A (N, C) is the softmax of a network trained on the clean labels, averaged over its epochs:

        candidate_i = argmax_{c ≠ y_i} A_ic,    score_i = max_{c ≠ y_i} A_ic,

    and the samples with the largest scores take their candidate as given label (Chen et al., "Beyond
    class-conditional assumption", AAAI 2021, algorithm 1; the SLN paper's instance-dependent noise). Some papers also
    call ``part_dependent`` (Xia et al. 2020) instance-dependent; it is another benchmark.

    The function draws nothing. Equal scores are ordered by sample, equal candidates by class, the lower first. A higher
    rate flips a superset, to the same classes.

    Args:
        labels: true labels, (N,) int64 on the CPU, in [0, C).
        rate: share of flipped samples, in [0, 1). Exactly ``int(rate * N + 1e-9)`` labels flip; the epsilon is
            needed because ``int(0.29 * 100)`` is 28. 0 flips nothing.
        probabilities: A, (N, C) of a floating type on the CPU, C >= 2; values in [0, 1], rows summing to 1
            (within 1e-2).

    Returns:
        Given labels, (N,) int64; a new tensor.

    Raises:
        ConfigError: an argument of another type, shape or range.
    """
    rate = check_rate(rate)
    # The shape of A must be valid before the labels can be checked against C.
    check_labels(labels)
    _check_probabilities(probabilities, len(labels))
    check_labels(labels, probabilities.shape[1])

    scores = torch.empty(len(labels), dtype=torch.float64)
    candidates = torch.empty_like(labels)
    for start in range(0, len(labels), _ROWS):  # a masked copy of the whole of A would double the memory
        rows = slice(start, start + _ROWS)
        others = probabilities[rows].double().scatter(1, labels[rows, None], -1.0)
        scores[rows], candidates[rows] = others.max(dim=1)

    order = torch.argsort(scores, descending=True, stable=True)
    # order[-count:] would flip everything at a rate of 0.
    flips = order[: exact_count(rate, len(labels))]
    given = labels.clone()
    given[flips] = candidates[flips]
    return given


def _check_probabilities(probabilities: Tensor, num_samples: int) -> None:
    if not isinstance(probabilities, Tensor) or not probabilities.is_floating_point():
        kind = probabilities.dtype if isinstance(probabilities, Tensor) else type(probabilities).__name__
        raise ConfigError(f"probabilities: must be a tensor of floating type, not {kind}")
    if probabilities.device.type != "cpu":
        raise ConfigError(f"probabilities: must be on the CPU, not on {probabilities.device}")
    if probabilities.ndim != 2 or len(probabilities) != num_samples or probabilities.shape[1] < 2:
        raise ConfigError(
            f"probabilities: must have shape (N, C) with N={num_samples} (one row per label) and C >= 2, "
            f"not {tuple(probabilities.shape)}"
        )
    for start in range(0, num_samples, _ROWS):
        rows = probabilities[start : start + _ROWS].double()
        in_range = ((rows >= 0) & (rows <= 1 + _TOLERANCE)).all(dim=1)  # false for nan
        bad = ~in_range | ((rows.sum(dim=1) - 1).abs() > _TOLERANCE)
        if bad.any():
            row = int(bad.nonzero()[0])
            raise ConfigError(
                f"probabilities: row {start + row} is no distribution over classes (minimum "
                f"{rows[row].min():.4g}, maximum {rows[row].max():.4g}, sum {rows[row].sum():.4g}); "
                "give averaged softmax outputs, not logits or sums"
            )
