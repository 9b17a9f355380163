"""Co-teaching (Han et al., 2018): each of two networks learns from the small losses of the other."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from slnlab.data.batches import Batch
from slnlab.methods.ensemble import TWO_NETWORKS, TWO_ROWS
from slnlab.methods.small_loss import SmallLoss, chosen, global_ranks, keep_count


class CoTeaching(SmallLoss):
    """Each network picks the int((1 − R)·B) smallest-loss samples of a batch; it trains on the *other's* picks.

    Han et al. (2018), algorithm 1, with R(e) of `ramp`. A network's loss is the plain mean over the picks it gets
    (the authors' public code divides by the count twice, so SGD's steps are ~100 times smaller). A batch without picks
    takes no step. The column `selected` marks the samples that network 1 learned from, `selected_2` those of
    network 2.

    Args:
        networks: two, each with its own initialisation.
        options: see `SmallLoss`.
    """

    rows = TWO_ROWS
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

    network_names = TWO_NETWORKS

    def step(self, batch: Batch) -> None:
        if keep_count(batch.shard.total, self.forget_rate):
            super().step(batch)

    def loss(self, batch: Batch) -> Tensor:
        logits = [network(batch.image) for network in self.networks.values()]
        self.observe(batch.index, logits[0])
        (compared, losses), (compared_2, losses_2) = (
            self.losses(outputs, batch, k) for k, outputs in enumerate(logits)
        )
        count = keep_count(batch.shard.total, self.forget_rate)
        picked, picked_2 = (global_ranks(each, batch.shard) < count for each in (compared, compared_2))
        self.table.write(batch.index, selected=picked_2, selected_2=picked)
        return torch.stack([chosen(losses, picked_2), chosen(losses_2, picked)]).sum() / count
