"""The training time of each epoch."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
import torch

from slnlab.methods.base import Method


class EpochTimer(pl.Callback):
    """Logs `seconds` and `images_per_second` of training, with label correction and without evaluation.

    It must be the first callback, so that the time of the others before an epoch counts.
    """

    @property
    def spent(self) -> float:
        """Seconds of training in the epoch so far."""
        return time.perf_counter() - self._start if self._seconds is None else self._seconds

    def add(self, seconds: float) -> None:
        """Add the seconds spent on the epoch before the run was stopped."""
        self._start -= seconds

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start = time.perf_counter()
        self._seconds: float | None = None

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.is_last_batch:
            if trainer.strategy.root_device.type == "cuda":
                torch.cuda.synchronize()  # launched kernels may still run
            self._seconds = self.spent

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Method)
        images = len(pl_module.data.train_index)
        pl_module.note({"seconds": self.spent, "images_per_second": images / self.spent})
