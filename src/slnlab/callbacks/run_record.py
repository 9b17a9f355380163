"""The record of a run: a row and a checkpoint per epoch, and the findings at the end."""

from __future__ import annotations

import csv
import io
import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch

from slnlab.analysis.label_issues import chosen_judge, label_verdict, label_warning, write_label_issues
from slnlab.analysis.labels import findings, judge
from slnlab.analysis.noise_estimate import Share, estimate_rate, estimate_rate_by_anchors
from slnlab.analysis.predictions import measured_qualities
from slnlab.analysis.scores import RANKING, suspicion
from slnlab.callbacks.best_epoch import ROW as BEST
from slnlab.callbacks.best_epoch import BestEpoch
from slnlab.callbacks.dynamics import dynamics
from slnlab.callbacks.evaluation_schedule import metrics_of_epoch
from slnlab.callbacks.momentum import MomentumModel
from slnlab.data.datamodule import IndexedDataModule
from slnlab.errors import DataError
from slnlab.methods.base import Method
from slnlab.processes.stopping import received_signal
from slnlab.record.label_wave import AVERAGE
from slnlab.record.metrics import summarise_test, summarise_validation
from slnlab.record.result import (
    KeptWeights,
    LabelFindings,
    LabelIssues,
    NoiseRateEstimate,
    NoiseRateUsed,
    ResultRow,
    TestQuality,
    TransitionUsed,
)
from slnlab.record.run_directory import RunDirectory
from slnlab.schema.options import RowTitle
from slnlab.storage.writing import replacing

log = logging.getLogger(__name__)


Watch = Callable[[dict[str, float]], None]


class EpochTimer(pl.Callback):
    """Logs `seconds` and `images_per_second` of training, with label correction and without evaluation.

    It must be the first callback, so that the time of the others before an epoch counts.
    """

    @property
    def spent(self) -> float:
        """Seconds of training in the epoch so far."""
        return time.perf_counter() - self._start if self._seconds is None else self._seconds

    def add(self, seconds: float) -> None:
        """Add the seconds spent on the epoch before the run was stopped."""
        self._start -= seconds

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start = time.perf_counter()
        self._seconds: float | None = None

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.is_last_batch:
            if trainer.strategy.root_device.type == "cuda":
                torch.cuda.synchronize()  # launched kernels may still run
            self._seconds = self.spent

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Method)
        images = len(pl_module.data.train_index)
        pl_module.note({"seconds": self.spent, "images_per_second": images / self.spent})


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
        label_wave_average: see `slnlab.record.label_wave.stopping_epoch`.
    """

    def __init__(
        self,
        run: RunDirectory,
        titles: Mapping[str, RowTitle],
        watch: Watch | None = None,
        label_wave_average: int = AVERAGE,
    ) -> None:
        self.run, self.titles, self.watch, self.label_wave_average = run, titles, watch, label_wave_average
        self.save_every = 0.0
        """Seconds between two saves; 0: after each epoch. The last epoch, and the one at whose end the run stops, are
        always saved."""
        self._saved = time.monotonic()
        self.epochs: list[dict[str, float]] = []
        self.rows: dict[str, ResultRow] = {}
        self.kept: KeptWeights | None = None
        self.label_issues: LabelIssues | None = None
        self.noise_rate_used: NoiseRateUsed | None = None
        self.noise_rate_estimate: NoiseRateEstimate | None = None
        self.noise_rate_by_anchors: NoiseRateEstimate | None = None
        self.transition_used: TransitionUsed | None = None

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
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, BestEpoch):
                self.kept = callback.kept
        columns, by_anchors = self._judge(pl_module)
        for name, members in pl_module.means.items():
            mean = LabelFindings.mean([self.rows[member].findings for member in members])
            qualities = [row.test_quality for member in members if (row := self.rows[member]).test_quality]
            self.rows[name] = self._summarise(name, mean, TestQuality.mean(qualities) if qualities else None)
        self.preprocessing = pl_module.data.preprocessing
        self.noise_rate_used = pl_module.noise_rate_used
        self.transition_used = pl_module.transition_used
        if not trainer.is_global_zero:
            return
        decay = next((callback.decay for callback in trainer.callbacks if isinstance(callback, MomentumModel)), 0.0)  # type: ignore[attr-defined]
        weighed = {name: self.rows[name] for name in pl_module.judged}
        judging, why = chosen_judge(weighed, first_weights=decay**pl_module.steps)
        suspected = self._write_samples(columns, judging, pl_module.data)
        self.label_issues = self._issues(judging, why, suspected, columns["given"])
        suspicions = suspicion(columns, judge="")[RANKING]  # of the training, so that it needs no judge
        wrong = columns.get("wrong")
        if len(suspicions) >= 2:
            self.noise_rate_estimate = _estimated(estimate_rate(suspicions, columns["given"]), "loss mixture", wrong)
        if judging in by_anchors:
            self.noise_rate_by_anchors = _estimated(by_anchors[judging], "anchor points", wrong)

    def _judge(self, method: Method) -> tuple[dict[str, np.ndarray], dict[str, Share]]:
        """Make the row of each network.

        Returns:
            (columns (M,) of `samples.npz`, noise rate by the anchor points of each network that has probabilities).
        """
        data, table = method.data, method.table
        # Lightning has moved the networks off the device by now.
        networks = {name: network.to(table.device) for name, network in method.judged.items()}
        tested: dict[str, TestQuality] = {}
        if data.test:
            tested = measured_qualities(networks, data.evaluation_batches("test"), data.num_classes)
        columns: dict[str, np.ndarray] = {}
        by_anchors: dict[str, Share] = {}
        for name, network in networks.items():
            index, loss, prediction, margin, other, probabilities = judge(
                network, data.passes("clean", "judge", 0), table
            )
            rows = index.to(table.device)
            known = {key: table[key][rows].cpu() for key in ("given", "true", "wrong") if key in table}
            found: LabelFindings = findings(loss, prediction, known["given"], known.get("true"), known.get("wrong"))
            self.rows[name] = self._summarise(name, found, tested.get(name))
            if probabilities.numel():
                by_anchors[name] = estimate_rate_by_anchors(probabilities, known["given"])
            columns |= {"index": index.numpy(), **{key: value.numpy() for key, value in known.items()}}
            columns |= {f"{name}_loss": loss.numpy(), f"{name}_prediction": prediction.numpy()}
            columns |= {f"{name}_margin": margin.numpy(), f"{name}_other": other.numpy()}
        columns |= {key: column.cpu().numpy() for key, column in dynamics(table, rows).items()}
        return columns, by_anchors

    def _write_samples(self, columns: dict[str, np.ndarray], judging: str, data: IndexedDataModule) -> int:
        """Write metrics, samples and label issues; return the number of suspected labels."""
        paths = data.paths(torch.from_numpy(columns["index"]))
        if paths is not None:
            columns["path"] = np.array([os.fsencode(path) for path in paths])  # text would need four times the memory
        with self.run.writing_result():
            self._write_metrics()
            with replacing(self.run.samples) as file:
                np.savez_compressed(file, **columns)  # type: ignore[arg-type]
            with replacing(self.run.label_issues) as file:
                return write_label_issues(file, columns, judging, data.classes)

    def _issues(self, judging: str, why: str, suspected: int, given: np.ndarray) -> LabelIssues:
        """Summarise `label_issues.csv`, and log the summary."""
        samples, row = len(given), self.rows[judging]
        agreement = row.findings.given_accuracy
        held_out = row.noisy_val_accuracy.last if row.noisy_val_accuracy else None
        issues = LabelIssues(
            judge=judging,
            reason=why,
            samples=samples,
            suspected=suspected,
            agreement=agreement,
            held_out=held_out,
            verdict=label_verdict(agreement, np.bincount(given).max() / samples, held_out),
        )
        message = "%s disagrees with %d of %d training labels (it judges because %s): %s"
        log.info(message, row.title, suspected, samples, why, self.run.label_issues)
        if warning := label_warning(issues, row.title):
            log.warning("%s", warning)
        return issues

    def _summarise(self, name: str, found: LabelFindings, quality: TestQuality | None) -> ResultRow:
        title, kept, epochs = self.titles.get(name, RowTitle(name)), None, self.epochs
        if name == BEST and self.kept is not None:  # earlier epochs had other weights
            kept, epochs = self.kept, [{**self.epochs[-1], "epoch": self.kept.epoch}]
        return ResultRow(
            title=title.title,
            secondary=title.secondary,
            kept=kept,
            test_accuracy=summarise_test(epochs, name, self.label_wave_average),
            noisy_val_accuracy=summarise_validation(epochs, name),
            clean_val_accuracy=summarise_validation(epochs, name, "val_clean"),
            test_quality=quality,
            findings=found,
        )

    def _write_metrics(self) -> None:
        """Write the whole of `metrics.csv`.

        Raises:
            DataError: the file cannot be written.
        """
        if not self.epochs:
            self.run.metrics.unlink(missing_ok=True)
            return
        text = io.StringIO(newline="")
        names = sorted({name for row in self.epochs for name in row} - {"epoch", "step"})
        writer = csv.DictWriter(text, ["epoch", "step", *names])  # blank: not evaluated after this epoch
        writer.writeheader()
        writer.writerows(self.epochs)
        with replacing(self.run.metrics) as file:
            file.write(text.getvalue().encode())


def _estimated(
    rate: Share, source: Literal["loss mixture", "anchor points"], wrong: np.ndarray | None
) -> NoiseRateEstimate:
    error = None if wrong is None else rate.value - float(wrong.mean())
    return NoiseRateEstimate(**rate._asdict(), source=source, error=error)
