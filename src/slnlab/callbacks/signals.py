"""Our signal handlers instead of Lightning's."""

from __future__ import annotations

import pytorch_lightning as pl

from slnlab.processes.stopping import take_signals


class OwnSignals(pl.Callback):
    """Replaces the handler that Lightning has just installed for SIGTERM.

    Lightning's handler would end the run as if it had finished. With several processes it would also communicate in the
    middle of other messages.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        take_signals()
