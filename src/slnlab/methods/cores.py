"""CORES² (Cheng, Zhu, Li, Gong, Sun & Liu, 2021): a confidence regulariser and a sieve of samples."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from slnlab import objectives
from slnlab.data.batches import Batch
from slnlab.methods.single_network import SingleNetwork
from slnlab.schema.kinds import FirstEpoch, NonNegative, Ramp


class CORES2(SingleNetwork):
    """The mean of `slnlab.objectives.CORES2` over the kept samples; the column `selected` marks them.

    The learning rate of the schedule is divided by 1 + β_e, as in the authors' code.

    Args:
        network: see `SingleNetwork`.
        strength: weight β of the confidence term, ≥ 0.
        ramp: two epochs, counted from 1: β is 0 up to the first, and has its full value from the second.
        sieve_from: first epoch of the sieve, counted from 1; None: all samples are kept.
        options: see `SingleNetwork`; the loss is cross entropy by definition, `class_losses` is not used.
    """

    refuses: ClassVar[dict[str, str]] = {
        "mixup.alpha": "CORES² keeps or drops a sample, and a mixture has two",
    }
    fixed: ClassVar[dict[str, Any]] = {"loss.name": "cross_entropy"}
    in_three_epochs: ClassVar[dict[str, Any]] = {"ramp": [1, 2], "sieve_from": 2}

    def __init__(
        self, network: nn.Module, *, strength: NonNegative, ramp: Ramp, sieve_from: FirstEpoch | None, **options: Any
    ) -> None:
        super().__init__(network, **options)
        self.strength, self.ramp, self.sieve_from = strength, tuple(ramp), sieve_from

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self.cores = objectives.CORES2(self.table, strength=self.strength, ramp=self.ramp, sieve_from=self.sieve_from)

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self.cores.begin(self.current_epoch + 1, self.data.rows(max(self.current_epoch - 1, 0)))

    def remember(self, batch: Batch, logits: Tensor) -> None:
        self.cores.remember(batch.index, logits)

    def objective(self, batch: Batch, logits: Tensor, targets: Tensor) -> Tensor:
        return self.cores(batch.index, logits, targets)

    def take_step(self, network: int | None = None) -> None:
        rates = [group["lr"] for group in self._optimizers[0].param_groups]
        for group, rate in zip(self._optimizers[0].param_groups, rates, strict=True):
            group["lr"] = rate / (1 + self.cores.beta)
        super().take_step(network)
        for group, rate in zip(self._optimizers[0].param_groups, rates, strict=True):
            group["lr"] = rate

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["cores_prior"] = self.cores.prior.cpu()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        if hasattr(self, "cores"):  # not when only the weights are wanted
            self.cores.prior = checkpoint["cores_prior"]
