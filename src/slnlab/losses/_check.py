"""What several losses demand of their arguments, said once, so that the messages agree."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from slnlab.errors import ConfigError

ROW_SUM_TOLERANCE = 1e-4
"""How far from 1 a row of a transition matrix may sum: room for float32 and for a file with five decimals."""


def check_weights(loss: str, **weights: float) -> None:
    """Weights of the terms of a loss, finite and not negative, or ``ConfigError``."""
    for name, weight in weights.items():
        if not 0.0 <= weight < float("inf"):
            raise ConfigError(f"{loss}: {name} = {weight}, but it must be finite and not negative")


def check_transition(transition: Any, who: str) -> Tensor:
    """A transition matrix T (C, C), T[i, j] = P(given j | true i), as a float64 CPU tensor, or ``ConfigError``.

    Args:
        transition: a tensor, an array or nested lists.
        who: what the message calls it.
    """
    try:
        matrix = torch.as_tensor(transition).detach().to("cpu", torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{who}: must be a matrix (C, C) of numbers: {error}") from None
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) < 2:
        raise ConfigError(f"{who}: has shape {tuple(matrix.shape)}, but it must be (C, C) with C ≥ 2 classes")
    outside = ~((matrix >= 0) & (matrix <= 1 + ROW_SUM_TOLERANCE))  # NaN too
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
