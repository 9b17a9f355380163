"""The weights of the epoch that was best on held-out labels, beside the last ones."""

from __future__ import annotations

import copy
import math
from typing import Any, Literal

import pytorch_lightning as pl
from torch import nn

from slnlab.methods.base import Method
from slnlab.record.checkpoints import BEST_EPOCH

ROW = "best"
"""Name of these weights in `Method.judged`."""

PREFERRED = ("ensemble", "momentum")
"""The weights to keep if none are named, else the first network's: averages are more accurate than one network."""


class BestEpoch(pl.Callback):
    """Keeps a network as it was after its best epoch, judged as `best` beside its last weights.

    Correct validation labels choose the epoch if there are any, else held-out noisy labels. Of equally good epochs
    the first counts. Training goes on for its whole budget, and after each epoch `best` holds the best weights so far.

    Args:
        weights: which of the method's networks to keep: "network", "momentum" or "ensemble"; None: see `PREFERRED`.
        criterion: the best epoch has the largest "accuracy", or the smallest "loss" (cross entropy), which also asks
            for calibrated probabilities.
    """

    def __init__(
        self,
        weights: Literal["network", "momentum", "ensemble"] | None = None,
        criterion: Literal["accuracy", "loss"] = "accuracy",
    ) -> None:
        self.weights = weights
        self.criterion = criterion
        self.score = -math.inf
        self.module: nn.Module | None = None
        self._saved: dict[str, Any] = {}

    @property
    def state_key(self) -> str:
        return BEST_EPOCH

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._attach(pl_module)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._attach(pl_module)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Method)
        assert self.module is not None
        metrics, name = pl_module.evaluation.metrics, self._kept(pl_module)
        split = "val_clean" if ("val_clean", name) in metrics else "val"
        value = float(metrics[split, name][self.criterion].compute())
        score = value if self.criterion == "accuracy" else -value
        if score > self.score:
            self.score = score
            self.module.load_state_dict(pl_module.judged[name].state_dict())
            for split, evaluated in list(metrics):  # until here those of `best` were of the former best weights
                if evaluated == name:
                    metrics[split, ROW] = metrics[split, name]

    def state_dict(self) -> dict[str, Any]:
        return {"score": self.score, "weights": self.module.state_dict()} if self.module is not None else self._saved

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._saved = state_dict
        if self.module is not None:
            self._restore(self.module)

    def restore(self, pl_module: pl.LightningModule) -> None:
        """Put the weights of a loaded checkpoint among those that the method judges."""
        self._attach(pl_module)

    def _attach(self, pl_module: pl.LightningModule) -> None:
        # Not before: Lightning restores callbacks before it moves the networks to their device.
        assert isinstance(pl_module, Method)
        if self.module is None:
            kept = pl_module.judged[self._kept(pl_module)]
            self.module = copy.deepcopy(kept).requires_grad_(False).eval()
        pl_module.judged[ROW] = self.module
        self._restore(self.module)

    def _restore(self, module: nn.Module) -> None:
        if self._saved:
            self.score = self._saved["score"]
            module.load_state_dict(self._saved["weights"])
            self._saved = {}

    def _kept(self, method: Method) -> str:
        """Name of the weights to keep."""
        if self.weights is not None:
            return self.weights
        return next((name for name in PREFERRED if name in method.judged), next(iter(method.judged)))
