"""The weights of the epoch that was best on held-out labels, beside the last ones."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any, Literal

import pytorch_lightning as pl
from torch import Tensor, nn

from slnlab.methods.base import Method
from slnlab.record.checkpoints import BEST_EPOCH
from slnlab.record.result import KeptWeights

ROW = "best"
"""Name of these weights in `Method.judged` and in the record."""


class BestEpoch(pl.Callback):
    """Keeps a network as it was after its best epoch, judged as `best` beside its last weights.

    Correct validation labels choose the epoch if there are any, else held-out noisy labels. Of equally good epochs
    the first counts. Training goes on for its whole budget, and each epoch's row `best` is that of the best so far.

    Args:
        weights: which of the method's networks to keep: "network", "momentum" or "ensemble"; None: the ensemble of
            several networks, else the network or the momentum model, whichever is better.
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
        self.measured: dict[str, float] = {}
        """The row `best` of the best epoch, as `split/best/key`."""
        self.kept: KeptWeights | None = None
        self.module: nn.Module | None = None
        self._saved: dict[str, Any] = {}

    @property
    def state_key(self) -> str:
        return BEST_EPOCH

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Not before: Lightning restores callbacks before it moves the networks to their device.
        assert isinstance(pl_module, Method)
        self._make(pl_module)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Method)
        self.take(pl_module, pl_module.evaluation.results({}))

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Method)
        self.restore(pl_module)

    def take(self, method: Method, measured: Mapping[str, float | Tensor]) -> None:
        """Keep the weights of the epoch that has just been evaluated, if they are the best.

        Args:
            method: with its networks.
            measured: `split/name/key` of this epoch, see `Evaluation.results`.
        """
        assert self.module is not None
        split = "val_clean" if any(key.startswith("val_clean/") for key in measured) else "val"
        for name in self._candidates(method):
            value = float(measured[f"{split}/{name}/{self.criterion}"])
            score = value if self.criterion == "accuracy" else -value
            if score > self.score:
                self.score, self.kept = score, KeptWeights(row=name, epoch=method.current_epoch + 1)
                self.module.load_state_dict(method.judged[name].state_dict())
                parts = {tuple(key.split("/")): float(number) for key, number in measured.items()}
                self.measured = {f"{on}/{ROW}/{key}": x for (on, row, key), x in parts.items() if row == name}
        method.note(self.measured)

    def state_dict(self) -> dict[str, Any]:
        if self.module is None:
            return self._saved
        kept = self.kept and self.kept.model_dump()
        return {"score": self.score, "kept": kept, "measured": self.measured, "weights": self.module.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._saved = state_dict
        if self.module is not None:  # during training
            self._load(self.module)

    def restore(self, method: Method) -> None:
        """Put the best weights among those that the method judges. No earlier, as each judged network is evaluated."""
        method.judged[ROW] = self._make(method)

    def _make(self, method: Method) -> nn.Module:
        if self.module is None:
            kept = method.judged[self._candidates(method)[0]]
            self.module = copy.deepcopy(kept).requires_grad_(False).eval()
        self._load(self.module)
        return self.module

    def _load(self, module: nn.Module) -> None:
        if self._saved:
            self.score, self.measured = self._saved["score"], self._saved["measured"]
            self.kept = self._saved["kept"] and KeptWeights(**self._saved["kept"])
            module.load_state_dict(self._saved["weights"])
            self._saved = {}

    def _candidates(self, method: Method) -> list[str]:
        """Names of the networks that may be kept, all of one structure; of equally good ones the first counts."""
        if self.weights is not None:
            return [self.weights]
        if "ensemble" in method.judged:
            return ["ensemble"]
        return [name for name in ("momentum", "network") if name in method.judged]
