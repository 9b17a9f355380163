"""No label noise."""

from __future__ import annotations

from torch import Tensor

from slnlab.noise._check import check_labels

__all__ = ["clean"]


def clean(labels: Tensor) -> Tensor:
    """Return the true labels as given labels.

    Args:
        labels: true labels, (N,) int64 on the CPU, not negative.

    Returns:
        A copy, (N,) int64, so that changes of the given labels never reach the true ones.

    Raises:
        ConfigError: labels of another type, shape or range.
    """
    return check_labels(labels).clone()
