"""Forward correction of cross entropy by a transition matrix (Patrini et al., 2017)."""

from __future__ import annotations

from math import log
from typing import Any

import torch
from torch import Tensor

from slnlab.losses._check import check_transition
from slnlab.losses._corrected import Corrected

IMPOSSIBLE = -log(torch.finfo(torch.float32).tiny)
"""Loss of a given label with probability 0 under T: 87.3, −log of the smallest normal float32."""


class Forward(Corrected):
    """Forward correction, L_y = −log (S·T)_y with S = softmax(logits).

    The network learns the distribution S of the *true* label; S·T is the distribution of the given label. Patrini et
    al. (2017), theorem 2. Their code first clips S to [clip, 1 − clip]; a clipped S has no gradient. Make one object
    per matrix, and use it in every step:

        >>> import torch
        >>> loss = Forward(torch.tensor([[0.75, 0.25], [0.0, 1.0]]))
        >>> loss(torch.zeros(1, 2)).exp()  # S·T = (0.375, 0.625)
        tensor([[2.6667, 1.6000]])

    T may hold zeros. A column of zeros is a given label that never occurs; its loss would be infinite for any
    prediction. L is then the constant `IMPOSSIBLE` with gradient 0, so that stochastic label noise or smoothing may
    put weight there.

    Memory and time grow with B·C², because the sum over true classes is taken in logarithms: a few tensors of 5 MB
    for 128 samples of 100 classes, and of 0.5 GB for 1000 classes.

    Args:
        transition: (C, C), T[i, j] = P(given j | true i); checked and copied, without gradient.
        clip: in (0, 1/2); the authors' is 1e-7. None: the loss of the theorem.

    Raises:
        ConfigError: ``transition`` is not square, holds no probabilities, or has a row that does not sum to 1; or
            ``clip`` is outside its range.
    """

    def __init__(self, transition: Any, clip: float | None = None) -> None:
        # logsumexp ignores log T_ij = −∞, so zeros need no special case.
        super().__init__(check_transition(transition, "forward: transition").log(), clip)

    def __call__(self, logits: Tensor) -> Tensor:
        """Logits (B, C) → losses (B, C) in [0, ∞), up to rounding, float32 or float64."""
        losses = self.clipped(logits)
        log_transition = self.matrix_for(losses)
        # log(S @ T) would lose the value and slope of classes with a softmax of 0 in floating point.
        never = log_transition.isneginf().all(dim=0)
        joint = torch.where(never, 0.0, log_transition) - losses[:, :, None]  # (B, true, given)
        return torch.where(never, IMPOSSIBLE, -torch.logsumexp(joint, dim=1))


def forward(logits: Tensor, transition: Any, clip: float | None = None) -> Tensor:
    """Forward-corrected cross entropy of every class. :class:`Forward` checks a matrix only once.

    Args:
        logits: (B, C), finite; float32 or float64. float16 and bfloat16 are computed and returned in float32.
        transition: (C, C), T[i, j] = P(given j | true i).
        clip: in (0, 1/2), or None.

    Returns:
        (B, C), in [0, ∞).

    Raises:
        ConfigError: transition is no transition matrix, or not of C classes; or clip is outside its range.
    """
    return Forward(transition, clip)(logits)
