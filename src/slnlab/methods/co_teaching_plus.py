"""Co-teaching+ (Yu et al., 2019): co-teaching on the disagreements of the two networks."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from slnlab.data.batches import Batch
from slnlab.methods.co_teaching import CoTeaching
from slnlab.methods.small_loss import global_ranks
from slnlab.schema.kinds import FirstEpochs


class CoTeachingPlus(CoTeaching):
    """Co-teaching for `init_epochs` epochs; afterwards on D = {i : argmax f¹_i ≠ argmax f²_i} of each batch only.

    Each network picks the `int((1 − R)·|D|)` samples of D with the smallest loss (all of D if that is none). It
    trains on the other's picks; the loss is the mean over them (Yu et al., 2019, algorithm 1). If the networks agree on
    the whole batch, no step is taken (the authors' public code sometimes trains on the whole batch instead). The host
    must know whether they agree, so after `init_epochs` each step waits once for the device.

    Args:
        networks: two, each with its own initialisation.
        init_epochs: number of epochs of plain co-teaching.
        loss_input: the input of the loss after these epochs. `probabilities`, as in the authors' code: cross entropy
            applies softmax to softmax outputs, for ranking and training (at C = 10 this loss lies in [1.46, 2.46]).
            `logits`: as in the paper.
        options: see `SmallLoss`.
    """

    refuses: ClassVar[dict[str, str]] = {
        "mixup.alpha": (
            "co-teaching+ keeps or drops a sample by its loss and by the networks' disagreement, and a mixture has two"
        ),
        "sam.rho": (
            "SAM perturbs one network towards its largest loss, and in co-teaching+ both networks choose the samples"
        ),
        "correction.enabled": (
            "label correction predicts with one momentum model, and co-teaching+ has two networks that must not "
            "learn from the same mistakes"
        ),
    }
    in_three_epochs: ClassVar[dict[str, Any]] = {"init_epochs": 1, "forget_rate": "estimated", "ramp_epochs": 2}

    def __init__(
        self,
        *networks: nn.Module,
        init_epochs: FirstEpochs,
        loss_input: Literal["probabilities", "logits"],
        **options: Any,
    ) -> None:
        super().__init__(*networks, **options)
        self.init_epochs, self.loss_input = init_epochs, loss_input

    def step(self, batch: Batch) -> None:
        if self.current_epoch < self.init_epochs:
            super().step(batch)
            return
        with self.forward_pass():
            loss, disagreements = self.loss_of_disagreements(batch)
        if disagreements:
            self.descend(loss)

    def seen_by_loss(self, logits: Tensor) -> Tensor:
        clipped = super().seen_by_loss(logits)
        if self.loss_input == "logits" or self.current_epoch < self.init_epochs:
            return clipped
        return clipped.float().softmax(1)

    def loss_of_disagreements(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """This process's share of the loss, and |D| of the global batch, both scalars; |D| = 0 gives a loss of 0."""
        logits = self.outputs(batch)
        disagree = logits[0].argmax(1) != logits[1].argmax(1)
        size = batch.shard.gather(disagree).sum()
        compared, losses = self.losses_of_both(logits, batch)
        exact = torch.float32 if size.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
        count = ((1 - self.forget_rate) * size.to(exact) + 1e-9).long()
        count = torch.where(count > 0, count, size)
        picked = [
            (global_ranks(each.masked_fill(~disagree, math.inf), batch.shard) < count) & disagree for each in compared
        ]
        return self.exchanged(batch, losses, picked) / count.clamp(min=1), size
