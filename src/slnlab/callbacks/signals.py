"""Signals go to us, not to Lightning."""

from __future__ import annotations

import pytorch_lightning as pl

from slnlab.processes.stopping import take_signals


class OwnSignals(pl.Callback):
    """Takes back what Lightning has just installed for SIGTERM.

    Its handler would end the run as if it had finished, and with several processes talk to the others in the middle
    of whatever they were saying.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        take_signals()
