"""No label noise."""

from __future__ import annotations

from torch import Tensor

from slnlab.noise._check import check_labels

__all__ = ["clean"]


def clean(labels: Tensor) -> Tensor:
    """The true labels as given labels.

    Args:
        labels: true labels, (N,) int64 on the CPU, not negative.

    Returns:
        A copy, (N,) int64: rewriting the given labels must never reach the true ones.

    Raises:
        ConfigError: labels of another type, shape or range.
    """
    return check_labels(labels).clone()
