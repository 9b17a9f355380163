"""Learning-rate schedules that PyTorch has not."""

from __future__ import annotations

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from slnlab.errors import ConfigError
from slnlab.schema.kinds import Count, CountOrZero, Rate


class LinearDecay(LRScheduler):
    """The learning rate as it is for `constant_epochs`, then down a line that reaches 0 after `total_epochs`.

    Co-teaching, co-teaching+ and JoCoR were published with it: Adam, 80 of 200 epochs (JoCoR on CIFAR-100: 100), and
    a first beta of .1 instead of .9 from there on. In epoch e, counted from 0, the factor is
    (total − e)/(total − constant) from e = constant on, so that the last epoch still learns.

    Args:
        optimizer: any; with `beta1` one that has betas.
        constant_epochs: in [0, total_epochs).
        total_epochs: of the run.
        beta1: of the optimiser from the first epoch of the line on, in [0, 1); None: as it was.

    Raises:
        ConfigError: the line would have no epoch, or there are no betas.
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
        epoch = min(max(self.last_epoch, self.constant_epochs), self.total_epochs)
        factor = (self.total_epochs - epoch) / (self.total_epochs - self.constant_epochs)
        if self.beta1 is not None and self.last_epoch >= self.constant_epochs:
            for group in self.optimizer.param_groups:
                group["betas"] = (self.beta1, group["betas"][1])
        return [factor * float(base) for base in self.base_lrs]
