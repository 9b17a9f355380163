"""Sparse over-parameterisation (Liu, Zhu, Qu & You, 2022): trainable parameters model the label noise."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from slnlab import objectives
from slnlab.data.batches import Batch
from slnlab.methods.single_network import SingleNetwork
from slnlab.schema.kinds import NonNegative


class SOP(SingleNetwork):
    """Each sample has its own parameters u_i (a number) and v_i (C), which can absorb a wrong label.

    The loss is `slnlab.objectives.SOP`. u and v take one gradient step per step of the optimiser, from the same pass.
    SLN's noise enters y in the first term of the loss only.

    Args:
        network: see `SingleNetwork`.
        lr_u, lr_v: learning rates of u and v, ≥ 0.
        options: see `SingleNetwork`; the loss is cross entropy by definition, `class_losses` is not used.
    """

    refuses: ClassVar[dict[str, str]] = {
        "mixup.alpha": "SOP's parameters explain the label of one sample, and a mixture has two",
        "correction.enabled": ("SOP's parameters explain the given label and do not fit a corrected one"),
    }
    fixed: ClassVar[dict[str, Any]] = {"loss.name": "cross_entropy"}
    in_three_epochs: ClassVar[dict[str, Any]] = {"lr_u": 1e5, "lr_v": 1e5}  # large, so that u and v visibly move

    def __init__(self, network: nn.Module, *, lr_u: NonNegative, lr_v: NonNegative, **options: Any) -> None:
        super().__init__(network, **options)
        self.lr_u, self.lr_v = lr_u, lr_v

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self.sop = objectives.SOP(self.table, lr_u=self.lr_u, lr_v=self.lr_v, seed=self.seed)

    def attached(self, batch: Batch) -> Batch:
        return batch._replace(own=self.sop.noise(batch.index))

    def objective(self, batch: Batch, logits: Tensor, targets: Tensor) -> Tensor:
        return self.sop(batch.own, logits, targets)

    def before_step(self, batch: Batch) -> None:
        self.sop.step(batch.own)
