"""Label correction by the momentum model in the last epochs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, one_hot

from slnlab.callbacks.momentum import MomentumModel
from slnlab.errors import ConfigError
from slnlab.samples import SampleTable
from slnlab.sln import StochasticLabelNoise

LossAgainst = Literal["current", "given"]
Prediction = Literal["hard", "soft"]
Weighting = Literal["loss", "inverse"]


@torch.no_grad()
def correct_labels(
    table: SampleTable,
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    loss_against: LossAgainst = "current",
    prediction: Prediction = "hard",
    weighting: Weighting = "loss",
) -> None:
    """Rewrite the targets of the samples in `batches` (section 3.3 and appendix D of the paper).

    With S' the network's softmax, ℓ_i = −Σ_c t_ic log S'_ic and ω_i = (ℓ_i − min ℓ)/(max ℓ − min ℓ) over these
    samples, the new targets are t_i = ω_i·onehot(given_i) + (1 − ω_i)·P_i. The weight of the given label *grows* with
    its loss; if all losses are equal, ω = 1 and the labels stay.

    Args:
        table: its targets are read and rewritten.
        network: predicts in eval mode; its mode is put back afterwards.
        batches: pairs (rows of the table (B,), images (B, …)).
        loss_against: ℓ against the targets held now (the authors' code), or the given labels (the paper's equation).
        prediction: P_i = onehot(argmax S'_i) (CIFAR) or S'_i (Clothing1M).
        weighting: "inverse" swaps ω and 1 − ω (the ablation of Fig. 10).
    """
    training = network.training
    network.eval()
    passes: list[tuple[Tensor, Tensor, Tensor]] = []
    for index, image in batches:
        log_probabilities = log_softmax(network(image).float(), 1)
        if loss_against == "given":
            targets = one_hot(table["given"][index], table.num_classes).float()
        else:
            targets = table.targets(index)
        loss = -(targets * log_probabilities).sum(1)
        predicted = log_probabilities.argmax(1) if prediction == "hard" else log_probabilities.exp()
        passes.append((index, loss, predicted))
    network.train(training)
    index, losses, predictions = (torch.cat(column) for column in zip(*passes, strict=True))
    table.correct(index, label_weights(losses, weighting), predictions)


def label_weights(losses: Tensor, weighting: Weighting = "loss") -> Tensor:
    """The weight of the given label, ω = (ℓ − min ℓ)/(max ℓ − min ℓ), shape (M,); all equal: 1.

    Args:
        losses: (M,), finite.
        weighting: "inverse" gives 1 − ω.
    """
    low, high = losses.min(), losses.max()
    weights = (losses - low) / (high - low)
    if weighting == "inverse":
        weights = 1 - weights
    # Without asking the host whether high == low: 0/0 is the only way to a NaN here.
    return weights.nan_to_num(nan=1.0)


class LabelCorrection(pl.Callback):
    """In the last epochs: σ := 0, and labels corrected by the momentum model at the start of each.

    With one of our methods and `MomentumModel` among the callbacks there is nothing more to say. In another
    LightningModule give `table` and `batches`, and keep its stochastic label noise, if any, in its attribute `sln`.

    Args:
        last_epochs: how many of the run's epochs train on corrected labels; 50 of 300 in the paper.
        views: images through the training augmentation, or as they are (used with our datamodule only).
        loss_against, prediction, weighting: see `correct_labels`.
        table: the sample table; None: the module's attribute `table`.
        batches: epoch → pairs (index, image) over the training samples; None: our datamodule's.

    Raises:
        ConfigError: last_epochs is not positive or exceeds the run, or there is no momentum model.
    """

    def __init__(
        self,
        last_epochs: int = 50,
        *,
        views: Literal["augmented", "clean"] = "augmented",
        loss_against: LossAgainst = "current",
        prediction: Prediction = "hard",
        weighting: Weighting = "loss",
        table: SampleTable | None = None,
        batches: Callable[[int], Iterable[tuple[Tensor, Tensor]]] | None = None,
    ) -> None:
        if last_epochs < 1:
            raise ConfigError(f"correction.last_epochs={last_epochs}: must be at least 1")
        self.last_epochs = last_epochs
        self.views = views
        self.options = {"loss_against": loss_against, "prediction": prediction, "weighting": weighting}
        self.table, self.batches = table, batches

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.max_epochs is None or self.last_epochs > trainer.max_epochs:
            raise ConfigError(
                f"correction.last_epochs={self.last_epochs}: the run has only {trainer.max_epochs} epochs"
            )
        self._momentum_model(trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epoch = trainer.current_epoch
        assert trainer.max_epochs is not None
        if epoch < trainer.max_epochs - self.last_epochs:
            return
        label_noise = getattr(pl_module, "sln", None)
        if isinstance(label_noise, StochasticLabelNoise):
            label_noise.sigma = 0.0
        batches = (
            self.batches(epoch) if self.batches else trainer.datamodule.passes(self.views, "label correction", epoch)  # type: ignore[attr-defined]
        )
        table: SampleTable = self.table or pl_module.table  # type: ignore[assignment]
        correct_labels(table, self._momentum_model(trainer).module, batches, **self.options)  # type: ignore[arg-type]

    def _momentum_model(self, trainer: pl.Trainer) -> MomentumModel:
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, MomentumModel):
                return callback
        raise ConfigError("label correction predicts with the momentum model; add MomentumModel to the callbacks")
