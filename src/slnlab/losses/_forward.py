"""Forward correction of cross entropy by a transition matrix (Patrini et al., 2017)."""

from __future__ import annotations

from math import log
from typing import Any

import torch
from torch import Tensor

from slnlab.losses._check import check_transition
from slnlab.losses._corrected import Corrected

IMPOSSIBLE = -log(torch.finfo(torch.float32).tiny)
"""The loss of a given label that T says never occurs: 87.3, −log of the smallest normal float32."""


class Forward(Corrected):
    """Forward correction, L_y = −log (S·T)_y with S = softmax(logits): cross entropy of what T makes of S.

    The network learns the distribution of the *true* label; T spoils it, as the labels were spoiled, before it is
    compared with the given one. Patrini et al. (2017), theorem 2. Their code clips S to [clip, 1 − clip] first, so that
    a class of which the network is that sure has no gradient any more. Made once per matrix, used in every step:

        >>> import torch
        >>> loss = Forward(torch.tensor([[0.75, 0.25], [0.0, 1.0]]))
        >>> loss(torch.zeros(1, 2)).exp()  # S·T = (0.375, 0.625)
        tensor([[2.6667, 1.6000]])

    Zeros in T are welcome. A given label that no true label turns into (a column of zeros) has an infinite loss
    whatever the network says, so there is nothing to learn from it: L is then the constant `IMPOSSIBLE`, with
    gradient 0, and stochastic label noise or smoothing that puts weight there does no harm.

    Memory and time go with B·C², for the sake of the digits where the softmax is 0: a few tensors of 5 MB for 128
    samples of 100 classes, of 0.5 GB for 1000.

    Args:
        transition: (C, C), T[i, j] = P(given j | true i); checked and copied, no gradient reaches it.
        clip: in (0, 1/2); the authors' 1e-7. None: the loss of the theorem.

    Raises:
        ConfigError: it is not square, holds what is no probability, or a row does not sum to 1; or a clip out of its
            range.
    """

    def __init__(self, transition: Any, clip: float | None = None) -> None:
        # T_ij = 0 becomes log T_ij = −∞, which logsumexp ignores.
        super().__init__(check_transition(transition, "forward: transition").log(), clip)

    def __call__(self, logits: Tensor) -> Tensor:
        """Logits (B, C) → losses (B, C) in [0, ∞), up to rounding, float32 or float64."""
        losses = self.clipped(logits)
        log_transition = self.matrix_for(losses)
        # Not log(S @ T): where the softmax is 0 in floating point its logarithm still has a value and a slope.
        never = log_transition.isneginf().all(dim=0)
        joint = torch.where(never, 0.0, log_transition) - losses[:, :, None]  # (B, true, given)
        return torch.where(never, IMPOSSIBLE, -torch.logsumexp(joint, dim=1))


def forward(logits: Tensor, transition: Any, clip: float | None = None) -> Tensor:
    """Forward-corrected cross entropy of every class; see :class:`Forward`, which checks a matrix only once.

    Args:
        logits: (B, C), finite; float32 or float64. float16 and bfloat16 are computed and returned in float32.
        transition: (C, C), T[i, j] = P(given j | true i).
        clip: in (0, 1/2), or None.

    Returns:
        (B, C), in [0, ∞).

    Raises:
        ConfigError: transition is no transition matrix, or not of C classes; or clip is out of its range.
    """
    return Forward(transition, clip)(logits)
