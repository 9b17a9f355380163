"""The mean softmax over all epochs, the basis of instance-dependent noise (Chen et al. 2020)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from slnlab.data.probabilities import save_probabilities
from slnlab.methods.base import Method
from slnlab.models.predicting import predict
from slnlab.processes.distributed import gathered


class SoftmaxAverage(pl.Callback):
    """Adds the network's eval-mode softmax over the training set after every epoch, and saves the mean at the end.

    The images have the training augmentation.

    Args:
        path: the `.npz` file to write: `probabilities` (N, C) float32 and the true `labels` (N,).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.epochs = 0
        self.total: Tensor | None = None

    @torch.no_grad()
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Method)
        if self.total is None:
            self.total = torch.zeros(len(pl_module.table), pl_module.table.num_classes, device=pl_module.device)
        self.total = self.total.to(pl_module.device)
        predicted: list[tuple[Tensor, Tensor]] = []
        for index, image in pl_module.data.passes("augmented", "softmax average", trainer.current_epoch):
            predicted.append((index, predict(pl_module.network, image).float().softmax(1)))
        index, probabilities = gathered(predicted)
        self.total[index] += probabilities
        self.epochs += 1

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Method)
        if self.total is not None and trainer.is_global_zero:
            true = pl_module.data.labels.true
            assert true is not None
            save_probabilities(self.path, self.total / self.epochs, true)

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": self.epochs, "total": self.total}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epochs, self.total = state_dict["epochs"], state_dict["total"]
