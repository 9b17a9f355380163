"""The record of a run: a row and a checkpoint per epoch, and the findings at the end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl

from slnlab.callbacks.evaluation_schedule import metrics_of_epoch
from slnlab.callbacks.final_findings import FinalFindings, final_findings
from slnlab.errors import DataError
from slnlab.methods.base import Method
from slnlab.processes.stopping import received_signal
from slnlab.record.run_directory import RunDirectory
from slnlab.schema.law import RowTitle
from slnlab.storage.tables import csv_bytes
from slnlab.storage.writing import replacing

log = logging.getLogger(__name__)

Watch = Callable[[dict[str, float]], None]


class RunRecord(pl.Callback):
    """Writes a row to `metrics.csv` and the loggers and a checkpoint after each epoch, and the findings at the end.

    It comes after callbacks that log. The checkpoint contains the rows, and `metrics.csv` is written from them as a
    whole, so a resumed run has exactly the rows of the epochs before. A failed write is logged and repeated after the
    next epoch. Only the first of several processes writes.

    Args:
        run: directory of the run.
        titles: titles of the rows, by name.
        watch: called with the row of each epoch, after its checkpoint; an exception ends the run, which can be resumed.
            A resumed run calls it with the rows of the earlier epochs first.
    """

    def __init__(self, run: RunDirectory, titles: Mapping[str, RowTitle], watch: Watch | None = None) -> None:
        self.run, self.titles, self.watch = run, titles, watch
        self.save_every = 0.0
        """Seconds between two saves; 0: after each epoch. The last epoch, and the one at whose end the run stops, are
        always saved."""
        self._saved = time.monotonic()
        self.epochs: list[dict[str, float]] = []
        self.findings: FinalFindings | None = None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["metrics"] = self.epochs

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self.epochs = checkpoint["metrics"]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Method)
        if trainer.is_global_zero:
            noise = pl_module.data.noise_record
            if noise is not None:  # unknown true labels have no noise record
                noise.save(self.run.noise)
            self._write_metrics()  # without rows written after the checkpoint
        for logger in trainer.loggers:
            if hasattr(logger, "catch_up"):
                logger.catch_up(self.epochs)
        if self.watch:
            for row in self.epochs:
                self.watch(row)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Method)
        metrics = {name: float(f"{value:.7g}") for name, value in metrics_of_epoch(trainer, pl_module).items()}
        row = {"epoch": trainer.current_epoch + 1, "step": pl_module.steps, **dict(sorted(metrics.items()))}
        self.epochs.append(row)
        for logger in trainer.loggers:
            logger.log_metrics(row, step=trainer.current_epoch + 1)
        if self._due(trainer):
            self._save(trainer)
        if self.watch:
            self.watch(row)

    def _due(self, trainer: pl.Trainer) -> bool:
        ends = len(self.epochs) == trainer.max_epochs or received_signal() is not None
        return ends or time.monotonic() - self._saved >= self.save_every

    def _save(self, trainer: pl.Trainer) -> None:
        self._saved = time.monotonic()
        trouble = "%s. Training continues, and tries again after the next epoch"
        if trainer.is_global_zero:
            try:
                self._write_metrics()
            except DataError as error:
                log.warning(trouble, error)
        try:
            trainer.save_checkpoint(self.run.checkpoint)
        except DataError as error:
            log.warning(trouble, error)
            trainer.strategy.barrier()  # the other processes wait at the one after a successful write

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Method)
        self.findings = final_findings(trainer, pl_module, self.run, self.epochs, self.titles)
        if trainer.is_global_zero:
            with self.run.writing_result():
                self._write_metrics()

    def _write_metrics(self) -> None:
        """Write the whole of `metrics.csv`.

        Raises:
            DataError: the file cannot be written.
        """
        if not self.epochs:
            self.run.metrics.unlink(missing_ok=True)
            return
        names = ["epoch", "step", *sorted({name for row in self.epochs for name in row} - {"epoch", "step"})]
        rows = ([row.get(name) for name in names] for row in self.epochs)  # blank: not evaluated after this epoch
        with replacing(self.run.metrics) as file:
            file.write(csv_bytes([names, *rows]))
