"""The epochs after which a run is evaluated."""

from __future__ import annotations

import pytorch_lightning as pl

from slnlab.methods.base import Method

ALWAYS = 10
"""The first and the last epochs, each of which is evaluated. Networks peak early, before they memorise wrong labels.
`mean_last_10` of the result is the mean of the last ones."""


def is_due(epoch: int, every: int, epochs: int) -> bool:
    """True if the run is evaluated after this epoch, from 1 on, of `epochs`."""
    return epoch % every == 0 or epoch <= ALWAYS or epoch > epochs - ALWAYS


class EvaluationSchedule(pl.Callback):
    """Evaluates after every `every`-th epoch, and after each of the first and the last ten.

    Evaluation draws nothing at random, so a run ends with the same weights for any `every`. Rules that choose an epoch
    (`oracle`, `best_noisy_val`, `best_clean_val`, the pruning of a study) choose among the evaluated epochs.

    Args:
        every: epochs from one evaluation to the next; 1: after every epoch.
    """

    def __init__(self, every: int = 1) -> None:
        self.every = every

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Method)
        assert trainer.max_epochs is not None
        pl_module.evaluation.due = is_due(trainer.current_epoch + 1, self.every, trainer.max_epochs)
        trainer.check_val_every_n_epoch = 1
        if not pl_module.evaluation.due:
            skip_evaluation(trainer)


def skip_evaluation(trainer: pl.Trainer) -> None:
    """Let Lightning's evaluation after the present epoch be left out."""
    assert trainer.max_epochs is not None
    trainer.check_val_every_n_epoch = trainer.max_epochs + 1  # no epoch is a multiple of that


def metrics_of_epoch(trainer: pl.Trainer, method: Method) -> dict[str, float]:
    """The metrics logged in the current epoch; Lightning also keeps those of earlier evaluations."""
    splits = method.data.evaluation_splits
    return {
        name: float(value)
        for name, value in trainer.callback_metrics.items()
        if method.evaluation.due or name.split("/")[0] not in splits
    }
