"""Backward correction of cross entropy by a transition matrix (Patrini et al., 2017)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from slnlab.errors import ConfigError
from slnlab.losses._check import check_transition
from slnlab.losses._corrected import Corrected
from slnlab.processes.float32 import without_autocast

LARGEST_CONDITION = 1e6
"""Largest condition number of T. Beyond it a float32 loss would have no correct digit, so T counts as singular."""


class Backward(Corrected):
    """Backward correction, L_y = −Σ_c (onehot(y)·T⁻¹)_c log S_c with S = softmax(logits).

    The loss is unbiased: its mean over the given labels of a true class i is the cross entropy of i,
    Σ_j T_ij L_j = −log S_i. It may be negative, and is unbounded below. Patrini et al. (2017), theorem 1. Their code
    bounds it by clipping S to [clip, 1 − clip]; a clipped S has no gradient. T is inverted once, in float64. Make one
    object per matrix, and use it in every step:

        >>> import torch
        >>> loss = Backward(torch.tensor([[0.75, 0.25], [0.25, 0.75]]))  # its inverse: [[1.5, -0.5], [-0.5, 1.5]]
        >>> loss(torch.tensor([[0.0, 2.0]]))  # cross entropy is 2.1269, 0.1269
        tensor([[ 3.1269, -0.8731]])

    Args:
        transition: (C, C), T[i, j] = P(given j | true i); checked and copied, without gradient.
        clip: in (0, 1/2); the authors' is 1e-7. None: the loss of the theorem.

    Raises:
        ConfigError: ``transition`` is not square, holds no probabilities, has a row that does not sum to 1, or is
            singular; or ``clip`` is outside its range.
    """

    def __init__(self, transition: Any, clip: float | None = None) -> None:
        matrix = check_transition(transition, "backward: transition")
        condition = float(torch.linalg.cond(matrix))
        if not condition <= LARGEST_CONDITION:
            raise ConfigError(
                f"backward: transition: is singular (condition number {condition:.2g}, at most "
                f"{LARGEST_CONDITION:.0e} is allowed), so given labels do not determine true ones; "
                "forward needs no inverse"
            )
        super().__init__(torch.linalg.inv(matrix), clip)

    def __call__(self, logits: Tensor) -> Tensor:
        """Logits (B, C) → losses (B, C), of either sign, float32 or float64."""
        losses = self.clipped(logits)
        inverse = self.matrix_for(losses)
        with without_autocast(losses.device):  # which would multiply in half precision
            return losses @ inverse.T


def backward(logits: Tensor, transition: Any, clip: float | None = None) -> Tensor:
    """Backward-corrected cross entropy of every class. :class:`Backward` inverts a matrix only once.

    Args:
        logits: (B, C), finite; float32 or float64. float16 and bfloat16 are computed and returned in float32.
        transition: (C, C), T[i, j] = P(given j | true i), not singular.
        clip: in (0, 1/2), or None.

    Returns:
        (B, C), of either sign.

    Raises:
        ConfigError: transition is no transition matrix, singular, or not of C classes; or clip is outside its range.
    """
    return Backward(transition, clip)(logits)
