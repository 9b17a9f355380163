"""Runs of `slnlab.train.train`, timed epoch by epoch."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf

from benchmarks.measure import DEVICE
from slnlab.config import check, compose
from slnlab.methods import Method
from slnlab.train import train

SMALL, MIDDLE = "CNN 8/16/16", "CNN 32/64/64"
WRN = "WRN-28-2"
NOTHING = "a model that costs nothing"

MODELS: dict[str, dict[str, Any]] = {
    SMALL: {"_target_": "benchmarks.made.ThreeConvolutions", "widths": [8, 16, 16]},
    MIDDLE: {"_target_": "benchmarks.made.ThreeConvolutions", "widths": [32, 64, 64]},
    NOTHING: {"_target_": "benchmarks.made.CostsNothing"},
    WRN: {"name": "wrn28_2", "_target_": "slnlab.models.WideResNet", "depth": 28, "widen_factor": 2},
}


def configuration(*overrides: str, model: str, train: int, test: int, classes: int = 10) -> DictConfig:
    """Return CIFAR-10's configuration on made images. test=0: without a test set."""
    config = compose(
        [
            "data=cifar10",
            "noise=sym",
            "noise.rate=0.4",
            f"trainer.accelerator={'cpu' if DEVICE == 'cpu' else 'gpu'}",
            "trainer.progress=false",
            f"data.test={test > 0}",
            f"data.num_train={train}",
            f"data.num_classes={classes}",
            f"data.classes={'null' if classes != 10 else '[a,b,c,d,e,f,g,h,i,j]'}",
            *overrides,
        ]
    )
    source = {"_target_": "benchmarks.made.MadeImages", "train": train, "test": test, "classes": classes}
    network = {"name": "made", "in_channels": 3, "num_classes": classes, **MODELS[model]}
    OmegaConf.update(config, "preset.donor", None, merge=False)  # it refers to the source's keys
    OmegaConf.update(config, "data.source", source, merge=False)
    OmegaConf.update(config, "model", network, merge=False)
    check(config)
    return config


@dataclass
class Parts:
    """The parts of a run at its call of `trainer.fit`."""

    trainer: pl.Trainer
    method: Method
    datamodule: Any

    def return_to_device(self) -> None:
        """Undo what Lightning does at the end of a run: it moves networks and optimiser states to the CPU."""
        self.method.to(DEVICE)
        for optimizer in self.method._optimizers:
            for state in optimizer.state.values():
                state |= {key: value.to(DEVICE) for key, value in state.items() if isinstance(value, torch.Tensor)}


def run(config: DictConfig, prepare: Callable[[Parts], None] | None = None) -> Parts:
    """Run `slnlab.train.train` in a temporary directory.

    Args:
        config: the configuration.
        prepare: receives the assembled run before it starts, and may change it.
    """
    found: list[Parts] = []
    fit = pl.Trainer.fit

    def watched(trainer: pl.Trainer, method: Method, datamodule: Any, *arguments: Any, **options: Any) -> None:
        found.append(Parts(trainer, method, datamodule))
        if prepare:
            prepare(found[0])
        fit(trainer, method, datamodule, *arguments, **options)

    pl.Trainer.fit = watched  # type: ignore[method-assign, assignment]
    try:
        with tempfile.TemporaryDirectory() as directory:
            train(config, Path(directory) / "run")
    finally:
        pl.Trainer.fit = fit  # type: ignore[method-assign]
    return found[0]


class EpochClock(pl.Callback):
    """Times of whole epochs (correction, training, evaluation, log, checkpoint) but the first.

    `seconds` is wall time, `cpu` the CPU time of this process, and `training` the wall time of training alone
    (ours only).

    Args:
        between: called after each epoch with the clock stopped; the other side takes its turn there.
    """

    def __init__(self, between: Callable[[int], None] | None = None) -> None:
        self.between = between
        self.seconds: list[float] = []
        self.cpu: list[float] = []
        self.training: list[float] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start, self._cpu = time.perf_counter(), time.process_time()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch:
            self.seconds.append(time.perf_counter() - self._start)
            self.cpu.append(time.process_time() - self._cpu)
            if "seconds" in trainer.callback_metrics:
                self.training.append(float(trainer.callback_metrics["seconds"]))
        if self.between:
            self.between(trainer.current_epoch)
        self._start, self._cpu = time.perf_counter(), time.process_time()


def epochs(
    config: DictConfig,
    between: Callable[[int], None] | None = None,
    prepare: Callable[[Parts], None] | None = None,
) -> EpochClock:
    """Train, and return the times of every epoch but the first.

    Args:
        config: the configuration.
        between: see `EpochClock`; also called for the first epoch, so that both sides warm up.
        prepare: changes the assembled run before it starts.
    """
    clock = EpochClock(between)

    def started(parts: Parts) -> None:
        parts.trainer.callbacks.append(clock)  # type: ignore[attr-defined]  # after the record: its work counts
        if prepare:
            prepare(parts)

    run(config, started)
    return clock
