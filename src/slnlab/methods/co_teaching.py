"""Co-teaching (Han et al., 2018): each of two networks learns from the small losses of the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from slnlab.data.batches import Batch
from slnlab.methods.small_loss import SmallLossPair, chosen, global_ranks, keep_count


class CoTeaching(SmallLossPair):
    """Each network picks the int((1 − R)·B) smallest-loss samples of a batch; it trains on the *other's* picks.

    Han et al. (2018), algorithm 1, with R(e) of `ramp`. A network's loss is the plain mean over the picks it gets
    (the authors' public code divides by the count twice, so SGD's steps are ~100 times smaller). A batch without picks
    takes no step. The column `selected` marks the samples that network 1 learned from, `selected_2` those of
    network 2.

    Args:
        networks: two, each with its own initialisation.
        options: see `SmallLoss`.
    """

    refuses: ClassVar[dict[str, str]] = {
        "mixup.alpha": "co-teaching keeps or drops a sample by its loss, and a mixture has two",
        "sam.rho": (
            "SAM perturbs one network towards its largest loss, and in co-teaching each network's loss uses the "
            "picks of the other"
        ),
        "correction.enabled": (
            "label correction predicts with one momentum model, and co-teaching has two networks that must not "
            "learn from the same mistakes"
        ),
    }

    def loss(self, batch: Batch) -> Tensor:
        compared, losses = self.losses_of_both(self.outputs(batch), batch)
        count = keep_count(batch.shard.total, self.forget_rate)
        picked = [global_ranks(each, batch.shard) < count for each in compared]
        return self.exchanged(batch, losses, picked) / count

    def exchanged(self, batch: Batch, losses: Sequence[Tensor], picked: Sequence[Tensor]) -> Tensor:
        """The sum of each network's losses (B,) over the picks (B,) of the other, which the table notes."""
        self.table.write(batch.index, selected=picked[1], selected_2=picked[0])
        return torch.stack([chosen(losses[0], picked[1]), chosen(losses[1], picked[0])]).sum()
