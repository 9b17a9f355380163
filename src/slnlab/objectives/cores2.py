"""CORES² (Cheng, Zhu, Li, Gong, Sun & Liu, 2021): a confidence regulariser, and the sieve that it makes possible."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from slnlab.losses import cross_entropy, expected_loss
from slnlab.objectives._softmax import softmax
from slnlab.processes.distributed import gather
from slnlab.samples import SampleTable


class CORES2:
    """ℓ_i − β_e·Σ_c π_c g_c of the kept samples, with g_c = −log(S_c + 1e-8); it may be negative.

    Equations 4 to 7 of the paper. A sample is kept iff ℓ_i ≤ mean_c g_c: its loss at the unperturbed target is at most
    that of a label drawn evenly. Before the epoch `sieve_from` every sample is kept. The test is of the same forward
    pass and knows neither π nor β. π (C) is the class distribution of the labels kept in the epoch before, at first of
    all given labels. β_e is 0 up to the epoch `ramp[0]`, β from `ramp[1]` on, and on a line between. No noise rate
    is needed. The column `selected` says who was kept.

    A loop calls `begin` before every epoch, and for every batch `remember`, then the objective. The authors divide the
    learning rate by 1 + `beta`. Save `prior` with the table.

    Args:
        table: of all training samples.
        strength: β ≥ 0.
        ramp: two epochs, from 1.
        sieve_from: an epoch, from 1; None: every sample is always kept.
    """

    def __init__(self, table: SampleTable, *, strength: float, ramp: Sequence[int], sieve_from: int | None) -> None:
        self.table, self.strength, self.ramp, self.sieve_from = table, strength, tuple(ramp), sieve_from
        table.add("selected", fill=True, dtype=torch.bool)
        self.beta, self.sieving = 0.0, False
        self.prior = torch.full((table.num_classes,), 1 / table.num_classes)
        """π (C,)."""

    def begin(self, epoch: int, rows: Tensor | None = None) -> None:
        """Set β_e and π, and whether samples are dropped. Where none was kept in the epoch before, π stays.

        Args:
            epoch: that begins, from 1.
            rows: the samples (M,) of the epoch before; None: all.
        """
        begin, end = self.ramp
        self.beta = self.strength * min(max((epoch - begin) / (end - begin), 0.0), 1.0)
        self.sieving = self.sieve_from is not None and epoch >= self.sieve_from
        kept, given = self.table["selected"], self.table["given"]
        if rows is not None:
            kept, given = kept[rows], given[rows]
        counts = torch.zeros(self.table.num_classes, device=kept.device).scatter_add_(0, given, kept.float())
        total = counts.sum()
        self.prior = torch.where(total > 0, counts / total.clamp(min=1), self.prior.to(counts))

    @torch.no_grad()
    def remember(self, index: Tensor, logits: Tensor) -> None:
        """Select among the samples `index` (B,), of which the network says `logits` (B, C)."""
        own = expected_loss(self.table.targets(index), cross_entropy(logits))
        self.table["selected"][index] = own <= _every_class(logits).mean(1) if self.sieving else True

    def __call__(self, index: Tensor, logits: Tensor, targets: Tensor) -> Tensor:
        """The losses (B,) of the samples `index` (B,), given `logits` and `targets` (B, C).

        Their mean over the batch (the global one, in a process group) is the mean over its kept samples.
        """
        every_class = _every_class(logits)
        losses = expected_loss(targets, cross_entropy(logits))
        losses = losses - self.beta * (self.prior.to(every_class) * every_class).sum(1)
        kept = self.table["selected"][index]
        everyones = gather(kept)
        return losses * kept * (len(everyones) / everyones.sum().clamp(min=1))


def _every_class(logits: Tensor) -> Tensor:
    return -torch.log(softmax(logits) + 1e-8)
