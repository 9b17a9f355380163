"""Early-learning regularisation (Liu, Niles-Weed, Razavian & Fernandez-Granda, 2020)."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from slnlab import objectives
from slnlab.data.batches import Batch
from slnlab.methods.single_network import SingleNetwork
from slnlab.schema.kinds import NonNegative, Rate


class ELR(SingleNetwork):
    """ℓ_i + λ·log(1 − ⟨q_i, S_i⟩), where q_i is the running target of earlier predictions.

    Each step moves the running targets before it uses them, see `slnlab.objectives.ELR`. ℓ is any class-wise loss.

    Args:
        network: see `SingleNetwork`.
        strength: weight λ of the regulariser, ≥ 0.
        decay: decay β of the running targets, in [0, 1).
        options: see `SingleNetwork`.
    """

    trusts_itself: ClassVar[bool] = True
    refuses: ClassVar[dict[str, str]] = {
        "mixup.alpha": "ELR keeps a running target for each sample, and a mixture has two; ELR+ includes mixup",
    }

    def __init__(self, network: nn.Module, *, strength: NonNegative, decay: Rate, **options: Any) -> None:
        super().__init__(network, **options)
        self.strength, self.decay = strength, decay

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self.elr = objectives.ELR(self.table, strength=self.strength, decay=self.decay, class_losses=self.class_losses)

    def remember(self, batch: Batch, logits: Tensor) -> None:
        self.elr.remember(batch.index, logits)

    def objective(self, batch: Batch, logits: Tensor, targets: Tensor) -> Tensor:
        return self.elr(batch.index, logits, targets)
