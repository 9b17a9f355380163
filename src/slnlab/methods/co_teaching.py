"""Co-teaching (Han et al., 2018): two networks, each learning from what the other finds easy."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from slnlab.data.batches import Batch
from slnlab.methods.small_loss import SmallLoss, global_ranks, keep_count
from slnlab.methods.two_networks import MEANS, NETWORKS, Ensemble


class CoTeaching(SmallLoss):
    """Of every batch each network picks the int((1 − R)·B) samples of smallest loss, and trains on the *other's* picks.

    Han et al. (2018), algorithm 1, with R(e) of `ramp`. A network's loss is the plain mean over the samples that it
    was handed (their public code divides by the count twice, which makes SGD's steps ~100 times smaller). A batch
    of which nothing is kept takes no step. The column `selected` marks what network 1 learned from, `selected_2`
    what network 2 did.

    Args:
        network, network_2: each with its own initialisation.
        options: see `SmallLoss`.
    """

    network_names = NETWORKS
    means = MEANS

    def __init__(self, network: nn.Module, network_2: nn.Module, **options: Any) -> None:
        super().__init__({"network": network, "network_2": network_2}, **options)
        self.evaluators["ensemble"] = Ensemble([network, network_2])

    def step(self, batch: Batch) -> None:
        if keep_count(batch.shard.total, self.forget_rate):
            super().step(batch)

    def loss(self, batch: Batch) -> Tensor:
        logits = [network(batch.image) for network in self.networks.values()]
        self.observe(batch.index, logits[0])
        (compared, losses), (compared_2, losses_2) = (self.losses(said, batch, k) for k, said in enumerate(logits))
        count = keep_count(batch.shard.total, self.forget_rate)
        picked, picked_2 = (global_ranks(each, batch.shard) < count for each in (compared, compared_2))
        self.table["selected"][batch.index], self.table["selected_2"][batch.index] = picked_2, picked
        return torch.stack([losses * picked_2, losses_2 * picked]).sum() / count
