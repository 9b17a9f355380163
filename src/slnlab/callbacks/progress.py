"""One line of progress: epochs, test accuracies, time left."""

from __future__ import annotations

import sys

import pytorch_lightning as pl
from tqdm import tqdm  # type: ignore[import-untyped]


class EpochProgress(pl.Callback):
    """A bar that counts epochs on a terminal, and a line now and then in a log file.

    Args:
        title: what is running.
    """

    def __init__(self, title: str) -> None:
        self.title = title

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        on_terminal = sys.stderr.isatty()
        self.bar = tqdm(
            total=trainer.max_epochs,
            initial=trainer.current_epoch,
            desc=self.title,
            unit="epoch",
            dynamic_ncols=on_terminal,
            mininterval=0.1 if on_terminal else 30.0,
            ascii=None if on_terminal else True,
        )

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        shown = {
            name.split("/")[1]: f"{100 * float(value):.1f}%"
            for name, value in trainer.callback_metrics.items()
            if name.startswith("test/") and name.endswith("/accuracy")
        }
        self.bar.set_postfix(shown, refresh=False)
        self.bar.update()

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if hasattr(self, "bar"):  # not when all epochs were done before the run was stopped
            self.bar.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.on_fit_end(trainer, pl_module)
