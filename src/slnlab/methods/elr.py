"""Early-learning regularisation (Liu, Niles-Weed, Razavian & Fernandez-Granda, 2020)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from slnlab.data.batches import Batch
from slnlab.methods.single_network import SingleNetwork, softmax
from slnlab.schema.kinds import NonNegative, Rate

CLIP = 1e-4
"""S is kept in [1e-4, 1 − 1e-4], so that the logarithm has a value."""


class ELR(SingleNetwork):
    """ℓ_i + λ·log(1 − ⟨q_i, S_i⟩): what the network has said early on is held against what it says now.

    Equation 6 of the paper, with running targets q_i ← β·q_i + (1 − β)·S_i/ΣS_i (equation 9), S clipped and without
    gradient, by sample from zeros, moved just before they are used. Any class-wise loss may take ℓ's place. The
    column `elr` is q (N, C), float32.

    Args:
        network: see `SingleNetwork`.
        strength: λ ≥ 0.
        decay: β in [0, 1).
        options: see `SingleNetwork`.
    """

    refuses: ClassVar[dict[str, str]] = {
        "mixup.alpha": "ELR keeps a running target of each sample as it is; its version with mixup is ELR+",
    }

    def __init__(self, network: nn.Module, *, strength: NonNegative, decay: Rate, **options: Any) -> None:
        super().__init__(network, **options)
        self.strength, self.decay = strength, decay

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self.table.add("elr", shape=(self.table.num_classes,))

    def objective(self, batch: Batch, logits: Tensor, targets: Tensor) -> Tensor:
        likely = softmax(logits).clamp(CLIP, 1 - CLIP)
        running = self.table["elr"][batch.index]
        if self.advancing:
            now = likely.detach() / likely.detach().sum(1, keepdim=True)
            running = self.decay * running + (1 - self.decay) * now.to(running)
            self.table["elr"][batch.index] = running
        regulariser = torch.log(1 - (running * likely).sum(1))
        return super().objective(batch, logits, targets) + self.strength * regulariser
