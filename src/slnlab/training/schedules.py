"""Learning-rate schedules that PyTorch lacks."""

from __future__ import annotations

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from slnlab.errors import ConfigError
from slnlab.schema.kinds import Count, CountOrZero, Rate


class LinearDecay(LRScheduler):
    """A constant learning rate for `constant_epochs`, then a linear decay that reaches 0 after `total_epochs`.

    Co-teaching, co-teaching+ and JoCoR were published with this schedule: Adam, constant for 80 of 200 epochs (JoCoR
    on CIFAR-100: 100), then a first beta of 0.1 instead of 0.9. From e = constant on, epoch e (from 0) has the factor
    (total − e)/(total − constant), so the last epoch still learns.

    Args:
        optimizer: any; `beta1` requires one with betas.
        constant_epochs: in [0, total_epochs).
        total_epochs: epochs of the run.
        beta1: first beta of the optimiser from the first decaying epoch on, in [0, 1); None: unchanged.

    Raises:
        ConfigError: no epoch is left for the decay, or the optimiser has no betas.
    """

    def __init__(
        self, optimizer: Optimizer, constant_epochs: CountOrZero, total_epochs: Count, beta1: Rate | None = None
    ) -> None:
        if not 0 <= constant_epochs < total_epochs:
            raise ConfigError(f"scheduler.constant_epochs: {constant_epochs}, but the run has {total_epochs} epochs")
        if beta1 is not None and "betas" not in optimizer.defaults:
            raise ConfigError(f"scheduler.beta1: {type(optimizer).__name__} has no betas; null, or optimizer=adam")
        self.constant_epochs, self.total_epochs, self.beta1 = constant_epochs, total_epochs, beta1
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """The learning rate of each parameter group; sets beta1 from the first decaying epoch on."""
        epoch = min(max(self.last_epoch, self.constant_epochs), self.total_epochs)
        factor = (self.total_epochs - epoch) / (self.total_epochs - self.constant_epochs)
        if self.beta1 is not None and self.last_epoch >= self.constant_epochs:
            for group in self.optimizer.param_groups:
                group["betas"] = (self.beta1, group["betas"][1])
        return [factor * float(base) for base in self.base_lrs]
