"""Label correction by the momentum model in the last epochs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, one_hot

from slnlab.callbacks.momentum import MomentumModel
from slnlab.errors import ConfigError, Diverged, SlnlabError, check_choice
from slnlab.models.predicting import predict
from slnlab.processes.distributed import gathered
from slnlab.samples import SampleTable, first_places
from slnlab.sln import StochasticLabelNoise

LossAgainst = Literal["current", "given"]
Prediction = Literal["hard", "soft"]
Weighting = Literal["loss", "inverse"]
Views = Literal["augmented", "clean"]

_CHOICES = {"loss_against": LossAgainst, "prediction": Prediction, "weighting": Weighting, "views": Views}


def _check(**options: str) -> None:
    for name, value in options.items():
        check_choice(f"label correction: {name}", value, _CHOICES[name])


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
    its loss. If all losses are equal, ω = 1 and the labels stay.

    In a process group every process predicts its own batches, and all processes get equal targets for all samples.

    Args:
        table: its targets are read and rewritten.
        network: predicts in eval mode; afterwards its mode is restored.
        batches: pairs (rows of the table (B,), images (B, …) on the network's device), at least one. The first
            prediction of a repeated sample counts.
        loss_against: ℓ against the current targets (the authors' code), or the given labels (the paper's equation).
        prediction: P_i = onehot(argmax S'_i) (CIFAR) or S'_i (Clothing1M).
        weighting: "inverse" swaps ω and 1 − ω (the ablation of Fig. 10).

    Raises:
        SlnlabError: there are no batches. Diverged: a loss is not finite. ConfigError: an option has another value.
            The targets stay unchanged in all cases.
    """
    _check(loss_against=loss_against, prediction=prediction, weighting=weighting)
    passes: list[tuple[Tensor, Tensor, Tensor]] = []
    for index, image in batches:
        index = index.to(table.device)
        log_probabilities = log_softmax(predict(network, image).float(), 1)
        if loss_against == "given":
            targets = one_hot(table["given"][index], table.num_classes).float()
        else:
            targets = table.targets(index)
        loss = -(targets * log_probabilities).sum(1)
        predicted = log_probabilities.argmax(1) if prediction == "hard" else log_probabilities.exp()
        passes.append((index, loss, predicted))
    if not passes:
        raise SlnlabError("label correction: there are no batches (was the iterator exhausted in an earlier epoch?)")
    index, losses, predictions = gathered(passes)
    first = _first_of_each(index, len(table))
    table.correct(index[first], label_weights(losses[first], weighting), predictions[first])


def label_weights(losses: Tensor, weighting: Weighting = "loss") -> Tensor:
    """The weights ω = (ℓ − min ℓ)/(max ℓ − min ℓ) of the given labels, shape (M,); 1 if all losses are equal.

    Args:
        losses: (M,), finite.
        weighting: "inverse" gives 1 − ω.

    Raises:
        Diverged: a loss is not finite, and would decide the weight of every label.
        ConfigError: `weighting` has another value.
    """
    _check(weighting=weighting)
    unusable = int((~losses.isfinite()).sum())
    if unusable:
        raise Diverged(
            f"label correction: the momentum model's loss is not finite for {unusable} of {len(losses)} samples"
        )
    low, high = losses.min(), losses.max()
    if low == high:
        return torch.ones_like(losses)
    weights = (losses - low) / (high - low)
    return 1 - weights if weighting == "inverse" else weights


def _first_of_each(rows: Tensor, size: int) -> Tensor:
    """Mask (M,) of the first position of each of `size` possible rows."""
    return first_places(rows, size) == torch.arange(len(rows), device=rows.device)


class LabelCorrection(pl.Callback):
    """At the start of each of the last epochs: σ := 0, and labels corrected by the momentum model.

    Our methods only need `MomentumModel` among the callbacks. Another LightningModule also needs `table` and
    `batches`; every `StochasticLabelNoise` among its submodules gets σ = 0.

    Args:
        last_epochs: number of epochs with corrected labels; 50 of 300 in the paper.
        views: predict images with the training augmentation or without (with our datamodule only).
        loss_against, prediction, weighting: see `correct_labels`.
        table: the sample table; None: the module's attribute `table`.
        batches: epoch → a pass of pairs (index, image) over the training samples, on any device; None: our
            datamodule's.

    Raises:
        ConfigError: before training: last_epochs is not positive or exceeds the run, an option has another value, or
            the momentum model, the sample table or the batches are missing.
    """

    def __init__(
        self,
        last_epochs: int = 50,
        *,
        views: Views = "augmented",
        loss_against: LossAgainst = "current",
        prediction: Prediction = "hard",
        weighting: Weighting = "loss",
        table: SampleTable | None = None,
        batches: Callable[[int], Iterable[tuple[Tensor, Tensor]]] | None = None,
    ) -> None:
        if last_epochs < 1:
            raise ConfigError(f"correction.last_epochs={last_epochs}: must be at least 1")
        _check(views=views, loss_against=loss_against, prediction=prediction, weighting=weighting)
        self.last_epochs = last_epochs
        self.views = views
        self.options = {"loss_against": loss_against, "prediction": prediction, "weighting": weighting}
        self.table, self.batches = table, batches

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.max_epochs is None or trainer.max_epochs < 0:
            raise ConfigError("label correction needs the number of epochs: give the Trainer max_epochs")
        if self.last_epochs > trainer.max_epochs:
            raise ConfigError(
                f"correction.last_epochs={self.last_epochs}: the run has only {trainer.max_epochs} epochs"
            )
        self._momentum_model(trainer)
        self._sample_table(pl_module)
        if self.batches is None and not hasattr(trainer.datamodule, "passes"):  # type: ignore[attr-defined]
            raise ConfigError("label correction predicts the training samples; give LabelCorrection(batches=...)")

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epoch = trainer.current_epoch
        assert trainer.max_epochs is not None
        if epoch < trainer.max_epochs - self.last_epochs:
            return
        for module in pl_module.modules():
            if isinstance(module, StochasticLabelNoise):
                module.sigma = 0.0
        if self.batches is None:
            batches = trainer.datamodule.passes(self.views, "label correction", epoch)  # type: ignore[attr-defined]
        else:
            batches = ((index, image.to(pl_module.device)) for index, image in self.batches(epoch))
        network = self._momentum_model(trainer).module
        correct_labels(self._sample_table(pl_module), network, batches, **self.options)  # type: ignore[arg-type]

    def _sample_table(self, pl_module: pl.LightningModule) -> SampleTable:
        table = getattr(pl_module, "table", None) if self.table is None else self.table
        if not isinstance(table, SampleTable):
            raise ConfigError("label correction rewrites targets in a sample table; give LabelCorrection(table=...)")
        return table

    def _momentum_model(self, trainer: pl.Trainer) -> MomentumModel:
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, MomentumModel):
                return callback
        raise ConfigError("label correction predicts with the momentum model; add MomentumModel to the callbacks")
