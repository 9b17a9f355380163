"""Early stopping on held-out noisy labels: a baseline for methods against memorisation."""

from __future__ import annotations

import copy
import math
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from slnlab.methods.single_network import SingleNetwork


class EarlyStopping(SingleNetwork):
    """Keeps the weights of the epoch that was best on the held-out *noisy* labels, as the row `best`.

    A data set with correct validation labels (`data.clean_val`) chooses by these.
    The first of equally good epochs counts. Training goes on for its whole budget, so `network` is the same method
    without stopping. At each epoch `best` holds the best weights so far.

    Args:
        network: see `SingleNetwork`.
        criterion: the best epoch has the largest "accuracy", or the smallest "loss" (cross entropy), which also
            requires calibrated probabilities.
        options: see `SingleNetwork`.
    """

    rows: ClassVar[dict[str, str]] = {"best": "{}", "network": "{} (network)", "momentum": "{} (momentum)"}
    needs: ClassVar[dict[str, str]] = {
        "data.noisy_val": "early stopping chooses its epoch by held-out noisy labels; hold some out",
    }

    def __init__(
        self, network: nn.Module, *, criterion: Literal["accuracy", "loss"] = "accuracy", **options: Any
    ) -> None:
        super().__init__(network, **options)
        self.criterion = criterion
        self.judged["best"] = copy.deepcopy(network).requires_grad_(False).eval()
        self.best_score = -math.inf

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.judged["best"].to(self.device)

    def on_test_start(self) -> None:
        self.judged["best"].to(self.device)

    def on_validation_epoch_end(self) -> None:
        metrics = self.evaluation.metrics
        split = "val_clean" if ("val_clean", "network") in metrics else "val"
        value = float(metrics[split, "network"][self.criterion].compute())
        score = value if self.criterion == "accuracy" else -value
        if score > self.best_score:
            self.best_score = score
            with torch.no_grad():
                for best, now in zip(_tensors(self.judged["best"]), _tensors(self.network), strict=True):
                    best.copy_(now)
            for split, name in list(metrics):  # until here those of `best` were of the former best weights
                if name == "network":
                    metrics[split, "best"] = metrics[split, name]
        super().on_validation_epoch_end()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["best"] = {"score": self.best_score, "weights": self.judged["best"].state_dict()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        best = checkpoint["best"]
        self.best_score = best["score"]
        self.judged["best"].load_state_dict(best["weights"])


def _tensors(network: nn.Module) -> list[torch.Tensor]:
    return [*network.parameters(), *network.buffers()]
