"""Backward correction of cross entropy by a transition matrix (Patrini et al., 2017)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from slnlab.errors import ConfigError
from slnlab.losses._check import check_transition
from slnlab.losses._corrected import Corrected

LARGEST_CONDITION = 1e6
"""Above this condition number T counts as singular: its inverse would leave a float32 loss no correct digit."""


class Backward(Corrected):
    """Backward correction, L_y = −Σ_c (onehot(y)·T⁻¹)_c log S_c with S = softmax(logits).

    It is unbiased: averaged over the given labels that T makes of a true one, it is the cross entropy of the true
    one, Σ_j T_ij L_j = −log S_i. The price is its range: it is negative in places, and unbounded below. Patrini et
    al. (2017), theorem 1. Their code bounds it: S is clipped to [clip, 1 − clip], so that a sample of which the network
    is that sure has no gradient any more. T is inverted once, in float64; made once per matrix, used in every step:

        >>> import torch
        >>> loss = Backward(torch.tensor([[0.75, 0.25], [0.25, 0.75]]))  # its inverse: [[1.5, -0.5], [-0.5, 1.5]]
        >>> loss(torch.tensor([[0.0, 2.0]]))  # cross entropy is 2.1269, 0.1269
        tensor([[ 3.1269, -0.8731]])

    Args:
        transition: (C, C), T[i, j] = P(given j | true i); checked and copied, no gradient reaches it.
        clip: in (0, 1/2); the authors' 1e-7. None: the loss of the theorem.

    Raises:
        ConfigError: it is not square, holds what is no probability, a row does not sum to 1, or it is singular; or a
            clip out of its range.
    """

    def __init__(self, transition: Any, clip: float | None = None) -> None:
        matrix = check_transition(transition, "backward: transition")
        condition = float(torch.linalg.cond(matrix))
        if not condition <= LARGEST_CONDITION:
            raise ConfigError(
                f"backward: transition: is singular (condition number {condition:.2g}, at most "
                f"{LARGEST_CONDITION:.0e} is allowed): its true labels cannot be told from the given ones; "
                "forward needs no inverse"
            )
        super().__init__(torch.linalg.inv(matrix), clip)

    def __call__(self, logits: Tensor) -> Tensor:
        """Logits (B, C) → losses (B, C), of either sign, float32 or float64."""
        losses = self.clipped(logits)
        inverse = self.matrix_for(losses)
        with torch.autocast(losses.device.type, enabled=False):  # which would run the product in half precision
            return losses @ inverse.T


def backward(logits: Tensor, transition: Any, clip: float | None = None) -> Tensor:
    """Backward-corrected cross entropy of every class; see :class:`Backward`, which inverts a matrix only once.

    Args:
        logits: (B, C), finite; float32 or float64. float16 and bfloat16 are computed and returned in float32.
        transition: (C, C), T[i, j] = P(given j | true i), not singular.
        clip: in (0, 1/2), or None.

    Returns:
        (B, C), of either sign.

    Raises:
        ConfigError: transition is no transition matrix, singular, or not of C classes; or clip is out of its range.
    """
    return Backward(transition, clip)(logits)
