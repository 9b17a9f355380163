"""CORES² (Cheng, Zhu, Li, Gong, Sun & Liu, 2021): a confidence regulariser and a sample sieve."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from slnlab.errors import ConfigError
from slnlab.losses import cross_entropy, expected_loss
from slnlab.objectives._softmax import softmax
from slnlab.processes.distributed import sum_of_processes
from slnlab.samples import SampleTable


class CORES2:
    """Loss of each kept sample, ℓ_i − β_e·Σ_c π_c g_c with g_c = −log(S_c + 1e-8); it may be negative.

    Equations 4 to 7 of the paper. A sample is kept iff ℓ_i ≤ mean_c g_c: its loss at the unperturbed target is at most
    the loss of a uniformly drawn label. The test uses the same forward pass, without π and β. Before the epoch
    `sieve_from` every sample is kept. π (C) is the class distribution of the labels kept in the previous epoch, and at
    first of all given labels. β_e is 0 up to the epoch `ramp[0]`, β from `ramp[1]` on, and linear between them. The
    noise rate need not be known. The column `selected` (N,) bool marks the kept samples.

    A loop calls `begin` before every epoch, and for every batch `remember`, then the objective. The authors divide the
    learning rate by 1 + `beta`. Save `prior` with the table.

    Args:
        table: the table of all training samples.
        strength: β ≥ 0.
        ramp: two epochs, counted from 1, the second after the first.
        sieve_from: first epoch with the sieve, counted from 1; None: every sample is always kept.

    Raises:
        ConfigError: the ramp is no two ascending epochs.
    """

    def __init__(self, table: SampleTable, *, strength: float, ramp: Sequence[int], sieve_from: int | None) -> None:
        if len(ramp) != 2 or not ramp[0] < ramp[1]:
            raise ConfigError(f"CORES2: ramp={ramp!r}: must be two epochs, the second after the first")
        self.table, self.strength, self.ramp, self.sieve_from = table, strength, tuple(ramp), sieve_from
        table.add("selected", fill=True, dtype=torch.bool)
        self.beta, self.sieving = 0.0, False
        self.prior = torch.full((table.num_classes,), 1 / table.num_classes)
        """π (C,)."""

    def begin(self, epoch: int, rows: Tensor | None = None) -> None:
        """Set β_e and π for an epoch, and start the sieve when due. π stays if the previous epoch kept no sample.

        Args:
            epoch: number of the beginning epoch, from 1.
            rows: samples (M,) of the previous epoch; None: all.
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
        """Mark the kept ones among the samples `index` (B,) with `logits` (B, C)."""
        losses = expected_loss(self.table.targets(index), cross_entropy(logits))
        kept = losses <= _every_class(logits).mean(1) if self.sieving else torch.ones_like(losses, dtype=torch.bool)
        self.table.write(index, selected=kept)

    def __call__(self, index: Tensor, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the losses (B,) of the samples `index` (B,) with `logits` and `targets` (B, C).

        Their mean over the global batch is the mean over its kept samples.
        """
        every_class = _every_class(logits)
        losses = expected_loss(targets, cross_entropy(logits))
        losses = losses - self.beta * (self.prior.to(every_class) * every_class).sum(1)
        kept = self.table["selected"][index]
        all_kept, size = sum_of_processes(torch.stack([kept.sum(), torch.ones_like(kept).sum()]))
        return losses * kept * (size / all_kept.clamp(min=1))


def _every_class(logits: Tensor) -> Tensor:
    """Logits (B, C) → g (B, C)."""
    return -torch.log(softmax(logits) + 1e-8)
