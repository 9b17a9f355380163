"""Write the run down as it goes: a row per epoch, a checkpoint, and at the end the result."""

from __future__ import annotations

import csv
import time
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from slnlab.analysis.labels import findings, judge
from slnlab.data.datamodule import ImageDataModule
from slnlab.methods.base import Method
from slnlab.result import Evaluator, LabelFindings, read_metrics, summarise_test
from slnlab.run_directory import RunDirectory


class EpochTimer(pl.Callback):
    """Logs `seconds` and `images_per_second` of training, label correction included, evaluation not.

    First among the callbacks, so that what the others do before an epoch counts.
    """

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.is_last_batch:
            if trainer.strategy.root_device.type == "cuda":
                torch.cuda.synchronize()  # what was launched is not yet done
            self._seconds = time.perf_counter() - self._start

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        images = len(trainer.datamodule.train_index)  # type: ignore[attr-defined]
        pl_module.log_dict({"seconds": self._seconds, "images_per_second": images / self._seconds}, logger=False)


class RunRecord(pl.Callback):
    """After each epoch a row of `metrics.csv` and of the loggers, and a checkpoint; at the end the findings.

    Last among the callbacks, so that it sees what the others have logged.

    Args:
        run: where to write.
        labels: display names of the evaluators, e.g. {"network": "SLN"}.
    """

    def __init__(self, run: RunDirectory, labels: dict[str, str]) -> None:
        self.run, self.labels = run, labels
        self.evaluators: dict[str, Evaluator] = {}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        datamodule: ImageDataModule = trainer.datamodule  # type: ignore[attr-defined]
        datamodule.noise_record.save(self.run.noise)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.run.metrics.exists():  # a resumed run: epochs after the checkpoint happen again
            with self.run.metrics.open(newline="") as file:  # as text: the numbers stay as they were written
                rows = [row for row in csv.DictReader(file) if int(row["epoch"]) <= trainer.current_epoch]
            self.run.metrics.unlink()
            for row in rows:
                self._append(row)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Method)
        metrics = {name: float(f"{float(value):.7g}") for name, value in trainer.callback_metrics.items()}
        row = {"epoch": trainer.current_epoch + 1, "step": pl_module.steps, **dict(sorted(metrics.items()))}
        self._append(row)
        for logger in trainer.loggers:
            logger.log_metrics(row, step=trainer.current_epoch + 1)
        self.run.checkpoint.parent.mkdir(exist_ok=True)
        partial = self.run.checkpoint.with_suffix(".partial")
        trainer.save_checkpoint(partial)
        partial.replace(self.run.checkpoint)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Method)
        datamodule: ImageDataModule = trainer.datamodule  # type: ignore[attr-defined]
        table, rows = pl_module.table, read_metrics(self.run.metrics)
        columns: dict[str, np.ndarray] = {}
        for name, network in pl_module.evaluators.items():
            # Lightning has taken the network off the device by now.
            index, loss, prediction = judge(network.to(table.device), datamodule.passes("clean", "judge", 0), table)
            known = {
                key: table[key][index.to(table.device)].cpu() for key in ("given", "true", "wrong") if key in table
            }
            found: LabelFindings = findings(loss, prediction, known["given"], known.get("true"), known.get("wrong"))
            self.evaluators[name] = Evaluator(
                label=self.labels.get(name, name), test_accuracy=summarise_test(rows, name), labels=found
            )
            columns |= {"index": index.numpy(), **{key: value.numpy() for key, value in known.items()}}
            columns |= {f"{name}_loss": loss.numpy(), f"{name}_prediction": prediction.numpy()}
        np.savez_compressed(self.run.samples, **columns)  # type: ignore[arg-type]

    def _append(self, row: dict[str, Any]) -> None:
        new = not self.run.metrics.exists()
        with self.run.metrics.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if new:
                writer.writeheader()
            writer.writerow(row)
