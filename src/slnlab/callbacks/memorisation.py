"""Memorisation, read once per epoch from the sample table."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from slnlab.errors import Diverged, SlnlabError
from slnlab.methods.base import Method


class MemorisationMonitor(pl.Callback):
    """Logs at the end of each epoch, over the training samples as the network predicted them during it:

    - `train/loss`, `train/accuracy`: cross entropy against and agreement with the given labels;
    - `train/true_accuracy`: agreement with the true labels, without replaced images;
    - `train/loss_correct`, `train/loss_wrong`: mean loss of correctly and of wrongly labelled samples (Fig. 1);
    - `train/memorised`: fraction of wrongly labelled samples predicted as their given label;
    - `train/recovered`: fraction of flipped samples predicted as their true label.

    A method that selects samples marks them in the bool column `selected` of the sample table (`selected_2` for its
    second network, and so on), which gives:

    - `train/selected`: fraction of selected samples;
    - `train/selected_correct`: fraction of correctly labelled samples among them.

    Only known true labels give the true, correct, wrong, memorised and recovered values. A mean over no samples is NaN.

    Raises:
        Diverged: the loss or a weight is not finite (the losses do not show the epoch's last step or a second network).
            The message names the epoch, the step and the learning rate.
        SlnlabError: the method has recorded no sample of the epoch.
    """

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # At the end of the epoch the schedule has already stepped.
        self._learning_rate: float = trainer.optimizers[0].param_groups[0]["lr"]

    @torch.no_grad()
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Method)
        table, rows = pl_module.table, pl_module.data.drawn_index
        loss, prediction, given = (table[name][rows] for name in ("loss", "prediction", "given"))
        agrees = (prediction == given).float()
        means = {"loss": loss.mean(), "accuracy": agrees.mean()}
        if "true" in table:
            true, wrong = table["true"][rows], table["wrong"][rows]
            is_true = (prediction == true).float()
            means |= {
                "true_accuracy": is_true[~wrong | (given != true)].mean(),  # a replaced image has no true label
                "loss_correct": loss[~wrong].mean(),
                "loss_wrong": loss[wrong].mean(),
                "memorised": agrees[wrong].mean(),
                "recovered": is_true[given != true].mean(),
            }
        for name in sorted(column for column in table.columns if column.startswith("selected")):
            selected = table[name][rows]
            means[name] = selected.float().mean()
            if "wrong" in table:
                means[f"{name}_correct"] = (~table["wrong"][rows])[selected].float().mean()
        last_step = total(pl_module.judged.values())
        seen = table["observed"][rows].any()
        *values, weights, observed = torch.stack([*means.values(), last_step, seen.float()]).tolist()
        pl_module.note({f"train/{name}": value for name, value in zip(means, values, strict=True)})
        if not observed:
            raise SlnlabError(
                f"{type(pl_module).__name__}.loss records no sample: it must call self.observe(batch.index, logits)"
            )
        if not (math.isfinite(values[0]) and math.isfinite(weights)):
            fault = "some weights are not finite after" if math.isfinite(values[0]) else f"the loss is {values[0]} in"
            raise Diverged(
                f"{fault} epoch {trainer.current_epoch + 1} (step {pl_module.steps}, "
                f"learning rate {self._learning_rate:g}); a smaller optimizer.lr may help"
            )


def total(networks: Iterable[nn.Module]) -> Tensor:
    """Sum of all weights and running statistics, a scalar; not finite if one of them is not."""
    tensors = {id(t): t for network in networks for t in (*network.parameters(), *network.buffers())}
    return torch.stack([t.sum().float() for t in tensors.values() if t.is_floating_point()]).sum()
