"""Importance reweighting with a transition matrix and its learned revision (T-Revision; Xia et al., 2019)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from slnlab.errors import ConfigError
from slnlab.losses import cross_entropy
from slnlab.losses._check import check_transition

FLOOR = 1e-8
"""Entries of T̂ + ΔT count as this at least, which bounds the gradient of ΔT; T̂'s diagonal is no smaller."""


_WHO = "T-Revision: transition"


class RevisedTransition(nn.Module):
    """Class-wise losses w_y · (−log S_y), with the importance weights w_y = S_y / (S·T)_y and T = T̂ + ΔT.

    S·T is the distribution of the given label, so the mean weighted loss of noisy labels is the mean loss of true
    labels (Liu & Tao, 2016). The network first learns with T̂ and constant weights (`revising=False`). Then it learns
    ΔT too, and the weights have gradients (Xia et al., 2019, section 3 and algorithm 1). Rows of T̂ + ΔT need not sum
    to 1, as in that paper. ΔT is 0 at first; give it an optimiser with a small learning rate.

    >>> revised = RevisedTransition([[0.75, 0.25], [0.0, 1.0]])
    >>> logits = torch.zeros(1, 2)
    >>> revised(logits, revising=False)  # S·T = (0.375, 0.625), so w = (4/3, 4/5)
    tensor([[0.9242, 0.5545]])

    Memory and time grow with B·C², as for `slnlab.losses.Forward`.

    Args:
        estimate: T̂ (C, C), T[i, j] = P(given j | true i); or the number of classes, for the unit matrix until `start`.

    Raises:
        ConfigError: see `start`.
    """

    def __init__(self, estimate: Any) -> None:
        super().__init__()
        start = torch.eye(estimate) if isinstance(estimate, int) else check_transition(estimate, _WHO).float()
        self.correction = nn.Parameter(torch.zeros_like(start))
        self.estimate: Tensor
        self.register_buffer("estimate", torch.zeros_like(start))
        self.start(start if isinstance(estimate, int) else estimate)

    def start(self, estimate: Any) -> None:
        """Take T̂ (C, C).

        Raises:
            ConfigError: T̂ is no transition matrix of C classes, or its diagonal has a 0: weights have no bound.
        """
        matrix = check_transition(estimate, _WHO)
        if matrix.shape != self.estimate.shape:
            raise ConfigError(f"T-Revision: a transition matrix of {len(matrix)} classes, not of {len(self.estimate)}")
        worst = int(matrix.diagonal().argmin())
        if matrix[worst, worst] < FLOOR:
            raise ConfigError(
                f"T-Revision: transition: class {worst} never keeps its label, so importance weights have no bound; "
                "forward correction needs none"
            )
        self.estimate.copy_(matrix)

    def matrix(self) -> Tensor:
        """T̂ + ΔT (C, C) as a transition matrix: entries are ≥ 1e-8, and rows are divided by their sums."""
        matrix = self._entries()
        return matrix / matrix.sum(1, keepdim=True)

    def _entries(self) -> Tensor:
        entries = self.estimate + self.correction
        return entries + (FLOOR - entries).clamp(min=0).detach()  # an entry below the floor keeps its gradient

    def forward(self, logits: Tensor, revising: bool = True) -> Tensor:
        """Logits (B, C) → losses (B, C) in [0, ∞), float32 or float64.

        Args:
            logits: finite.
            revising: True: weights of T̂ + ΔT, with gradients; False: constant weights of T̂.
        """
        losses = cross_entropy(logits)
        if not revising:
            return _weights(losses.detach(), self.estimate) * losses
        return _weights(losses, self._entries()) * losses


def _weights(losses: Tensor, transition: Tensor) -> Tensor:
    """S / (S·T) (B, C) for losses −log S (B, C), in logarithms: a softmax of 0 keeps its weight."""
    given = torch.logsumexp(transition.log() - losses[:, :, None], dim=1)
    return (-losses - given).exp()
