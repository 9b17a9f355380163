"""CORES² (Cheng, Zhu, Li, Gong, Sun & Liu, 2021): a confidence regulariser, and the sieve that it makes possible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from slnlab.data.batches import Batch
from slnlab.losses import cross_entropy, expected_loss
from slnlab.methods.single_network import SingleNetwork, softmax
from slnlab.processes.distributed import gather


class CORES2(SingleNetwork):
    """Mean over the kept samples of ℓ_i − β_e·Σ_c π_c g_c, with g_c = −log(S_c + 1e-8); it may be negative.

    Equations 4 to 7 of the paper. A sample is kept iff ℓ_i ≤ mean_c g_c, its loss at the unperturbed target at most
    that of a label drawn evenly; before the epoch `sieve_from` every sample is. The test is of the same forward pass
    and knows neither π nor β. π (C) is the class distribution of the labels kept in the epoch before, at first of
    all given labels. β_e is 0 up to the epoch `ramp[0]`, β from `ramp[1]` on, and on a line between. No noise rate
    is needed. The column `selected` says who was kept.

    The learning rate is that of the schedule divided by 1 + β_e, as the authors'.

    Args:
        network: see `SingleNetwork`.
        strength: β ≥ 0.
        ramp: two epochs, from 1.
        sieve_from: an epoch, from 1; None: every sample is always kept.
        options: see `SingleNetwork`; the loss is cross entropy by definition, `class_losses` is not used.
    """

    in_three_epochs: ClassVar[dict[str, Any]] = {"ramp": [1, 2], "sieve_from": 2}

    def __init__(
        self, network: nn.Module, *, strength: float, ramp: Sequence[int], sieve_from: int | None, **options: Any
    ) -> None:
        super().__init__(network, **options)
        self.strength, self.ramp, self.sieve_from = strength, tuple(ramp), sieve_from
        self.beta = 0.0
        self.prior: Tensor

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self.table.add("selected", fill=True, dtype=torch.bool)
        self.prior = torch.full((self.table.num_classes,), 1 / self.table.num_classes)

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        begin, end = self.ramp
        self.beta = self.strength * min(max((self.current_epoch + 1 - begin) / (end - begin), 0.0), 1.0)
        self.renew_prior()

    def renew_prior(self) -> None:
        """π from the labels that were kept in the epoch before, of its samples; if none was, it stays."""
        rows = self.trainer.datamodule.rows(max(self.current_epoch - 1, 0))  # type: ignore[attr-defined]
        kept = self.table["selected"][rows].float()
        counts = torch.zeros(self.table.num_classes, device=kept.device).scatter_add_(
            0, self.table["given"][rows], kept
        )
        total = counts.sum()
        self.prior = torch.where(total > 0, counts / total.clamp(min=1), self.prior.to(counts))

    def objective(self, batch: Batch, logits: Tensor, targets: Tensor) -> Tensor:
        every_class = -torch.log(softmax(logits) + 1e-8)
        entropies = cross_entropy(logits)
        if self.advancing:
            own = expected_loss(self.targets(batch.index), entropies)
            keep = (own <= every_class.mean(1)).detach()
            sieving = self.sieve_from is not None and self.current_epoch + 1 >= self.sieve_from
            self.table["selected"][batch.index] = keep if sieving else True
        kept = self.table["selected"][batch.index]
        losses = expected_loss(targets, entropies) - self.beta * (self.prior.to(every_class) * every_class).sum(1)
        # The mean over the kept of all processes, written as a sum over the batch divided by its size.
        share = batch.shard.total / gather(kept).sum().clamp(min=1)
        return losses * kept * share

    def descend(self, loss: Tensor, network: int | None = None) -> None:
        rates = [group["lr"] for group in self._optimizers[0].param_groups]
        for group, rate in zip(self._optimizers[0].param_groups, rates, strict=True):
            group["lr"] = rate / (1 + self.beta)
        super().descend(loss, network)
        for group, rate in zip(self._optimizers[0].param_groups, rates, strict=True):
            group["lr"] = rate

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["cores_prior"] = self.prior.cpu()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.prior = checkpoint["cores_prior"]
