"""Progress of a run: epochs, accuracies and time left, as one updated line on a terminal, plain lines in a log.

It uses tqdm rather than rich: one line needs neither panels nor colours, and tqdm comes with Lightning.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import pytorch_lightning as pl
from tqdm import tqdm  # type: ignore[import-untyped]
from tqdm.contrib.logging import logging_redirect_tqdm  # type: ignore[import-untyped]

from slnlab.schema.law import RowTitle

log = logging.getLogger(__name__)

EVERY = 30.0
"""Seconds between two lines in a log; the first and the last epoch always have one."""

SHOWN = 2
"""Number of rows in the line; more do not fit into 80 columns."""


AGREEMENT = "train/accuracy"
"""Share of the training labels that the network predicts, see `slnlab.callbacks.memorisation`."""


class EpochProgress(pl.Callback):
    """Shows the time left, the latest accuracies, and how many of its labels the network predicts in training.

    The accuracies are those on correct validation labels, else on the test set, else on held-out noisy labels. The time
    left is estimated within the first epoch too.

    Args:
        title: title of the run.
        rows: titles of the rows by name; beyond two rows, secondary ones are left out first.
    """

    def __init__(self, title: str, rows: Mapping[str, RowTitle] | None = None) -> None:
        self.title, self.rows = title, dict(rows or {})
        self.bar: tqdm | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._began, self._first, self._reported = time.monotonic(), trainer.current_epoch, -EVERY
        self._within = 0.0
        if not sys.stderr.isatty():
            return
        self._open = ExitStack()
        print(self.title, file=sys.stderr)  # on its own line, as the accuracies need the other one
        self.bar = self._open.enter_context(
            tqdm(
                total=trainer.max_epochs,
                initial=trainer.current_epoch,
                bar_format="epoch {n_fmt}/{total_fmt} {bar} {postfix}{remaining} left",
                dynamic_ncols=True,
            )
        )
        self._open.enter_context(logging_redirect_tqdm())  # a warning gets its own line, above

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        passed, share = time.monotonic() - self._began, (batch_idx + 1) / trainer.num_training_batches
        if trainer.current_epoch > self._first or share == 1 or passed - self._within < (1 if self.bar else EVERY):
            return
        self._within = passed
        left = tqdm.format_interval(passed * (((trainer.max_epochs or 0) - self._first) / share - 1))
        if self.bar is not None:
            self.bar.bar_format = f"epoch {{n_fmt}}/{{total_fmt}} {{bar}} {share:.0%} of an epoch, {left} left"
            self.bar.refresh()
        else:
            self._say(f"{self.title}: {share:.0%} of the first epoch, {left} left")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if self.bar is not None:
            # tqdm puts ", " before what is given to set_postfix_str.
            self.bar.bar_format = (
                f"epoch {{n_fmt}}/{{total_fmt}} {{bar}} {self._accuracies(metrics)}, {{remaining}} left"
            )
            self.bar.update()
            return
        now, done, epochs = time.monotonic(), trainer.current_epoch + 1, trainer.max_epochs or 0
        if now - self._began - self._reported < EVERY and done < epochs:
            return
        self._reported = now - self._began
        each = self._reported / (done - self._first)
        parts = [f"epoch {done}/{epochs}", self._accuracies(metrics), f"{each:.3g} s/epoch"]
        if done < epochs:
            parts.append(f"{tqdm.format_interval((epochs - done) * each)} left")
        self._say(f"{self.title}: {', '.join(part for part in parts if part)}")

    def _say(self, line: str) -> None:
        if log.isEnabledFor(logging.INFO):
            log.info("%s", line)
        else:  # called from Python without logging set up
            print(line, file=sys.stderr)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.bar is not None:
            self._open.close()
            self.bar = None

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.on_fit_end(trainer, pl_module)

    def _accuracies(self, metrics: Mapping[str, float]) -> str:
        """`network 84.9 %, momentum 92.7 %, labels 61.3 %`."""
        found = []
        for split, before in (("val_clean", "val: "), ("test", ""), ("val", "noisy val: ")):
            key = f"{split}/{{}}/accuracy"
            names = [
                name.split("/")[1] for name in metrics if name.startswith(f"{split}/") and name.endswith("/accuracy")
            ]
            names = [*(name for name in self.rows if name in names), *(n for n in names if n not in self.rows)]
            # The sort is stable: main rows first, each in the order of the rows. They are shown in that order.
            main = sorted(names, key=lambda name: name in self.rows and self.rows[name].secondary)[:SHOWN]
            if main:
                shown = [name for name in names if name in main]
                found = [f"{name} {100 * metrics[key.format(name)]:.1f} %" for name in shown]
                found[0] = before + found[0]
                break
        if AGREEMENT in metrics:
            found.append(f"labels {100 * metrics[AGREEMENT]:.1f} %")
        return ", ".join(found)
