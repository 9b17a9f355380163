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
from slnlab.record.label_wave import CHANGES, stopping_epoch
from slnlab.record.result import KeptWeights

ROW = "best"
"""Name of these weights in `Method.judged` and in the record."""


class BestEpoch(pl.Callback):
    """Keeps a network as it was after its best epoch, judged as `best` beside its last weights.

    Correct validation labels choose the epoch if there are any, else held-out noisy labels. Of equally good epochs
    the first counts. Label Wave needs no held-out labels: it takes the last epoch before the predictions on the
    training samples begin to change more often (`slnlab.record.label_wave.stopping_epoch`).

    Training goes on for its whole budget, and each epoch's row `best` is that of the best so far.

    Args:
        weights: which of the method's networks to keep: "network", "momentum" or "ensemble"; None: the ensemble of
            several networks, else the network or the momentum model, whichever is better.
        criterion: the best epoch has the largest "accuracy", or the smallest "loss" (cross entropy), which also asks
            for calibrated probabilities; or "label_wave" chooses it, of the momentum model if there is one.
    """

    def __init__(
        self,
        weights: Literal["network", "momentum", "ensemble"] | None = None,
        criterion: Literal["accuracy", "loss", "label_wave"] = "accuracy",
    ) -> None:
        self.weights = weights
        self.criterion = criterion
        self.changes: list[dict[str, float]] = []
        """Epoch and prediction changes of each epoch, for Label Wave."""
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

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Method)
        if self.criterion != "label_wave":
            return
        row: dict[str, float] = {"epoch": trainer.current_epoch + 1}
        measured = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.changes.append(row | {name: value for name, value in measured.items() if name == CHANGES})
        if stopping_epoch(self.changes) in (None, row["epoch"]):  # no later epoch has been found worse
            self._keep(pl_module, self._candidates(pl_module)[0], measured)
        pl_module.note(self.measured)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Method)
        self.restore(pl_module)

    def take(self, method: Method, measured: Mapping[str, float | Tensor]) -> None:
        """Keep the weights of the epoch that has just been evaluated, if they are the best.

        Args:
            method: with its networks.
            measured: `split/name/key` of this epoch, see `Evaluation.results`.
        """
        if self.criterion == "label_wave":
            return
        split = "val_clean" if any(key.startswith("val_clean/") for key in measured) else "val"
        for name in self._candidates(method):
            value = float(measured[f"{split}/{name}/{self.criterion}"])
            score = value if self.criterion == "accuracy" else -value
            if score > self.score:
                self.score = score
                self._keep(method, name, measured)
        method.note(self.measured)

    def _keep(self, method: Method, name: str, measured: Mapping[str, float | Tensor]) -> None:
        """Keep the weights of this name as they are now, with what this epoch's evaluation says of them."""
        assert self.module is not None
        self.module.load_state_dict(method.judged[name].state_dict())
        self.kept = KeptWeights(row=name, epoch=method.current_epoch + 1)
        of_row = {key: key.split("/") for key in measured if f"/{name}/" in key}
        self.measured = {f"{on}/{ROW}/{what}": float(measured[key]) for key, (on, _, what) in of_row.items()}

    def state_dict(self) -> dict[str, Any]:
        if self.module is None:
            return self._saved
        kept = self.kept and self.kept.model_dump()
        found = {"score": self.score, "kept": kept, "measured": self.measured, "changes": self.changes}
        return found | {"weights": self.module.state_dict()}

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
            self.score, self.measured, self.changes = (self._saved[key] for key in ("score", "measured", "changes"))
            self.kept = self._saved["kept"] and KeptWeights(**self._saved["kept"])
            module.load_state_dict(self._saved["weights"])
            self._saved = {}

    def _candidates(self, method: Method) -> list[str]:
        """Names of the networks that may be kept, all of one structure; of equally good ones the first counts."""
        if self.weights is not None:
            return [self.weights]
        if "ensemble" in method.judged:
            return ["ensemble"]
        found: list[str] = [name for name in ("momentum", "network") if name in method.judged]
        return found or [next(iter(method.judged))]  # a user's method names its network otherwise
