"""Training dynamics: numbers per sample that the epochs of a run leave behind, at no extra pass over the images."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch import Tensor

from slnlab.methods.base import Method
from slnlab.record.label_wave import CHANGES
from slnlab.samples import SampleTable

EMA_SHARE = 0.1
"""Share α of the newest loss in the moving average of the losses."""

COLUMNS: dict[str, tuple[float, torch.dtype]] = {
    "epochs_seen": (0, torch.int32),
    "aum": (0, torch.float32),
    "ema_loss": (0, torch.float32),
    "probability_mean": (0, torch.float32),
    "probability_squares": (0, torch.float32),  # sum of squared differences from the mean
    "forgotten": (0, torch.int32),
    "learned": (False, torch.bool),
    "label_changes": (0, torch.int32),
    "previous": (-1, torch.int32),
}
"""Columns of the sample table with their first value: 38 bytes per sample with `margin` and `observed`."""


class TrainingDynamics(pl.Callback):
    """Keeps the training dynamics of every sample in the sample table, where a checkpoint saves them.

    Training computes loss, prediction and margin of each sample in every epoch (`Method.observe`); this callback reads
    them at the end of the epoch. They belong to the first network, as a rule in training mode, on augmented images.
    Some methods look at all samples at the start of an epoch, in eval mode, and these numbers count: DivideMix (plain
    images) and PES (the mean of two augmented views) after their first phase, SSR (an augmented view) in every epoch.

    A sample that an epoch leaves out keeps its numbers. `train/prediction_changes` is logged from the second epoch on,
    see `prediction_changes`.
    """

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Method)
        for name, (first, dtype) in COLUMNS.items():
            pl_module.table.add(name, first, dtype=dtype)  # a loaded column stays

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Method)
        pl_module.table["observed"].fill_(False)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Method)
        changes = prediction_changes(pl_module.table)
        if changes is None:
            trainer.callback_metrics.pop(CHANGES, None)  # that of an earlier epoch
        else:
            pl_module.note({CHANGES: changes})
        accumulate(pl_module.table)


def prediction_changes(table: SampleTable) -> int | None:
    """The number of this epoch's samples with another prediction than before, ahead of `accumulate`.

    None if the epoch saw a sample for the first time, since the counts of such epochs do not compare.
    """
    seen, previous = table["observed"], table["previous"]
    new, changes = torch.stack([seen & (previous < 0), seen & (table["prediction"] != previous)]).sum(1).tolist()
    return None if new else int(changes)


@torch.no_grad()
def accumulate(table: SampleTable) -> None:
    """Add the observations of one epoch, those of `SampleTable.observe`, to the columns `COLUMNS` of the table."""
    given, loss, prediction, seen = (table[name] for name in ("given", "loss", "prediction", "observed"))
    epochs = table["epochs_seen"].add_(seen)
    newest = seen / epochs.clamp(min=1)  # share of this epoch in a mean
    table["aum"].add_(newest * (table["margin"] - table["aum"]))
    table["ema_loss"].add_(EMA_SHARE * seen * (loss - table["ema_loss"]))
    probability, mean = torch.exp(-loss), table["probability_mean"]
    above = probability - mean
    mean.add_(newest * above)
    table["probability_squares"].add_(seen * above * (probability - mean))  # Welford (1962)
    right, previous = seen & (prediction == given), table["previous"]
    table["forgotten"].add_(seen & ~right & (previous == given))
    table["learned"].logical_or_(right)
    table["label_changes"].add_(seen & (previous >= 0) & (prediction != previous))
    previous.copy_(torch.where(seen, prediction, previous))


def dynamics(table: SampleTable, rows: Tensor) -> dict[str, Tensor]:
    """The training dynamics of samples, by their names in `samples.npz`.

    Args:
        table: after `accumulate`.
        rows: (M,).

    Returns:
        Columns (M,). Values are NaN for a sample that no epoch saw.

        - `epochs_seen`: number n of epochs that saw the sample.
        - `aum`: area under the margin, the mean of `margins` over the n epochs (Pleiss et al. 2020).
        - `ema_loss`: moving average m ← (1 − α)·m + α·loss of the losses in nats, from 0, divided by 1 − (1 − α)^n, as
          some samples may have fewer epochs.
        - `probability_mean`, `probability_std`: mean and standard deviation (over n) of the probability of the given
          label, a data map (Swayamdipta et al. 2020).
        - `forgetting`: number of changes from the given label to another prediction between epochs, infinite for a
          label that was never predicted (Toneva et al. 2019).
        - `label_changes`: number of changes of the prediction between epochs.
    """
    columns = {name: table[name][rows] for name in COLUMNS}
    epochs = columns["epochs_seen"]
    unseen = epochs == 0
    found = {
        "aum": columns["aum"],
        "ema_loss": columns["ema_loss"] / (1 - (1 - EMA_SHARE) ** epochs.clamp(min=1)),
        "probability_mean": columns["probability_mean"],
        "probability_std": (columns["probability_squares"] / epochs.clamp(min=1)).sqrt(),
        "forgetting": columns["forgotten"].float().masked_fill(~columns["learned"], torch.inf),
        "label_changes": columns["label_changes"].float(),
    }
    return {"epochs_seen": epochs, **{name: column.masked_fill(unseen, torch.nan) for name, column in found.items()}}
