"""Early-learning regularisation (Liu, Niles-Weed, Razavian & Fernandez-Granda, 2020)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from slnlab.losses import cross_entropy, expected_loss
from slnlab.objectives._precision import in_full
from slnlab.objectives._softmax import softmax
from slnlab.samples import SampleTable

CLIP = 1e-4
"""S is clipped to [1e-4, 1 − 1e-4], so that the logarithm is finite."""


def early_learning(likely: Tensor, running: Tensor) -> Tensor:
    """Regulariser log(1 − ⟨q, S⟩) of each sample (B,), in (−∞, 0].

    Args:
        likely: S (B, C); this function clips it to [1e-4, 1 − 1e-4], in float32 if it is in half precision.
        running: running targets q (B, C).
    """
    return torch.log(1 - (running * in_full(likely).clamp(CLIP, 1 - CLIP)).sum(1))


class ELR:
    """Loss of each sample, ℓ_i + λ·log(1 − ⟨q_i, S_i⟩), with running targets q_i ← β·q_i + (1 − β)·S_i/ΣS_i.

    Equations 6 and 9 of the paper, with clipped S. The column `elr` of the table holds q (N, C) float32, at first zero.

    >>> from slnlab import SampleTable
    >>> table = SampleTable(torch.tensor([2, 0, 1]), num_classes=3)
    >>> elr = ELR(table, strength=3, decay=0.7)
    >>> index, logits = torch.tensor([1]), torch.zeros(1, 3, requires_grad=True)
    >>> elr.remember(index, logits)                         # before the loss of this step, which uses q
    >>> elr(index, logits, table.targets(index)).mean().backward()

    Args:
        table: the table of all training samples.
        strength: λ ≥ 0.
        decay: β in [0, 1).
        class_losses: class-wise loss of ℓ, logits (B, C) → (B, C).
    """

    def __init__(
        self,
        table: SampleTable,
        *,
        strength: float,
        decay: float,
        class_losses: Callable[[Tensor], Tensor] = cross_entropy,
    ) -> None:
        self.table, self.strength, self.decay, self.class_losses = table, strength, decay, class_losses
        table.add("elr", shape=(table.num_classes,))

    @torch.no_grad()
    def remember(self, index: Tensor, logits: Tensor) -> None:
        """Update the running targets of the samples `index` (B,) from their `logits` (B, C)."""
        likely = softmax(logits).clamp(CLIP, 1 - CLIP)
        column = self.table["elr"]
        now = (likely / likely.sum(1, keepdim=True)).to(column)
        self.table.write(index, elr=self.decay * column[index] + (1 - self.decay) * now)

    def __call__(self, index: Tensor, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the losses (B,) of the samples `index` (B,) with `logits` and `targets` (B, C)."""
        regulariser = early_learning(softmax(logits), self.table["elr"][index])
        return expected_loss(targets, self.class_losses(logits)) + self.strength * regulariser
