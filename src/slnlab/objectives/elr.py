"""Early-learning regularisation (Liu, Niles-Weed, Razavian & Fernandez-Granda, 2020)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from slnlab.losses import cross_entropy, expected_loss
from slnlab.objectives._softmax import softmax
from slnlab.samples import SampleTable

CLIP = 1e-4
"""S is kept in [1e-4, 1 − 1e-4], so that the logarithm has a value."""


def early_learning(likely: Tensor, running: Tensor) -> Tensor:
    """The regulariser log(1 − ⟨q, S⟩) of each sample (B,), in (−∞, 0].

    Args:
        likely: S (B, C), clipped to [1e-4, 1 − 1e-4] here.
        running: running targets q (B, C).
    """
    return torch.log(1 - (running * likely.clamp(CLIP, 1 - CLIP)).sum(1))


class ELR:
    """ℓ_i + λ·log(1 − ⟨q_i, S_i⟩), with running targets q_i ← β·q_i + (1 − β)·S_i/ΣS_i from zeros.

    Equations 6 and 9 of the paper, S clipped. The column `elr` of the table is q (N, C), float32.

    >>> from slnlab import SampleTable
    >>> table = SampleTable(torch.tensor([2, 0, 1]), num_classes=3)
    >>> elr = ELR(table, strength=3, decay=0.7)
    >>> index, logits = torch.tensor([1]), torch.zeros(1, 3, requires_grad=True)
    >>> elr.remember(index, logits)                         # first: q takes part in this step's loss
    >>> elr(index, logits, table.targets(index)).mean().backward()

    Args:
        table: of all training samples.
        strength: λ ≥ 0.
        decay: β in [0, 1).
        class_losses: logits (B, C) → the loss each class would incur (B, C), of which ℓ is made.
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
        """Move the running targets of the samples `index` (B,), of which the network says `logits` (B, C)."""
        likely = softmax(logits).clamp(CLIP, 1 - CLIP)
        column = self.table["elr"]
        now = (likely / likely.sum(1, keepdim=True)).to(column)
        column[index] = self.decay * column[index] + (1 - self.decay) * now

    def __call__(self, index: Tensor, logits: Tensor, targets: Tensor) -> Tensor:
        """The losses (B,) of the samples `index` (B,), given `logits` and `targets` (B, C)."""
        regulariser = early_learning(softmax(logits), self.table["elr"][index])
        return expected_loss(targets, self.class_losses(logits)) + self.strength * regulariser
