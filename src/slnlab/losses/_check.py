"""Checks of arguments that several losses share, so that their messages agree."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from slnlab.errors import ConfigError

ROW_SUM_TOLERANCE = 1e-4
"""Largest distance from 1 of a row's sum in a transition matrix: enough for float32 and for five decimals."""


def check_weights(loss: str, **weights: float) -> None:
    """Raise ``ConfigError`` if a weight of a loss's terms is negative or not finite."""
    for name, weight in weights.items():
        if not 0.0 <= weight < float("inf"):
            raise ConfigError(f"{loss}: {name} = {weight}, but it must be finite and not negative")


def check_above(loss: str, bound: float, **values: float) -> None:
    """Raise ``ConfigError`` if a parameter of a loss is infinite or not above the bound."""
    for name, value in values.items():
        if not bound < value < float("inf"):
            raise ConfigError(f"{loss}: {name} = {value}, but it must be finite and above {bound:g}")


def check_transition(transition: Any, who: str) -> Tensor:
    """Return a transition matrix T (C, C), T[i, j] = P(given j | true i), as a float64 CPU tensor.

    Args:
        transition: a tensor, an array or nested lists.
        who: name of the matrix in messages.

    Raises:
        ConfigError: the matrix is not square, an entry is no probability, or a row does not sum to 1.
    """
    try:
        matrix = torch.as_tensor(transition).detach().to("cpu", torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{who}: must be a matrix (C, C) of numbers: {error}") from None
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) < 2:
        raise ConfigError(f"{who}: has shape {tuple(matrix.shape)}, but it must be (C, C) with C ≥ 2 classes")
    outside = ~((matrix >= 0) & (matrix <= 1 + ROW_SUM_TOLERANCE))  # finds NaN too
    if outside.any():
        i, j = outside.nonzero()[0].tolist()
        raise ConfigError(f"{who}: [{i}, {j}] is {float(matrix[i, j])}, which is no probability")
    sums = matrix.sum(dim=1)
    wrong = (sums - 1).abs() > ROW_SUM_TOLERANCE
    if wrong.any():
        i = int(wrong.nonzero()[0])
        columns = matrix.sum(dim=0)
        transposed = bool(((columns - 1).abs() <= ROW_SUM_TOLERANCE).all())
        raise ConfigError(
            f"{who}: row {i} sums to {float(sums[i]):.6g}, but each row is a distribution over given labels and "
            "must sum to 1" + ("; the columns do: is it transposed?" if transposed else "")
        )
    return matrix
