"""Small runs of a method, uninterrupted or stopped and resumed, for comparison bit for bit."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from torch import Tensor

from slnlab.callbacks.run_record import RunRecord
from slnlab.config import compose
from slnlab.data import IndexedDataModule
from slnlab.methods import Method
from slnlab.processes.stopping import Stopped, obeying_signals
from slnlab.record.run_directory import RunDirectory
from slnlab.training import assemble
from slnlab.training.settling import settle

SMALL = (
    "data.train_size=110",
    "data.batch_size=12",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
    "model.widths=[4,4,8,8]",
    "seed=3",
)


class StopAfter(pl.Callback):
    """Ends the training after so many epochs and saves the run, if its method is to be stopped."""

    def __init__(self, epochs: int, stopped: Callable[[Any], bool] = lambda method: True) -> None:
        self.epochs, self.stopped = epochs, stopped

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        trainer.should_stop = trainer.current_epoch + 1 == self.epochs and self.stopped(pl_module)


class Run(NamedTuple):
    """The objects of a run."""

    method: Method
    data: IndexedDataModule
    trainer: pl.Trainer
    record: RunRecord

    @property
    def directory(self) -> RunDirectory:
        return RunDirectory(Path(self.trainer.default_root_dir))

    @property
    def rows(self) -> list[dict[str, str]]:
        """Metrics of each epoch without timings, as text so that NaN equals NaN."""
        timings = ("seconds", "images_per_second")
        return [{name: repr(value) for name, value in row.items() if name not in timings} for row in self.record.epochs]

    @property
    def state(self) -> dict[str, Tensor]:
        """All that the run has come to."""
        tensors = {f"table.{name}": column for name, column in self.method.table.columns.items()}
        modules = {"method": self.method, **self.method.judged}
        for name, module in modules.items():
            tensors |= {f"{name}.{key}": tensor for key, tensor in module.state_dict().items()}
        for number, optimizer in enumerate(self.trainer.optimizers):
            for parameter, its in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer {number} {parameter} {key}": value for key, value in its.items()}
        return {name: tensor for name, tensor in tensors.items() if isinstance(tensor, Tensor)}

    @property
    def schedules(self) -> list[dict[str, Any]]:
        """The state of each schedule and the options of its optimiser."""
        return [
            each.scheduler.state_dict() | {key: value for key, value in group.items() if key != "params"}
            for each in self.trainer.lr_scheduler_configs
            for group in each.scheduler.optimizer.param_groups  # type: ignore[union-attr]
        ]

    def fit(self) -> None:
        """Train, from where the run was stopped if there is such a place."""
        last = self.directory.checkpoint
        self.trainer.fit(self.method, self.data, ckpt_path=last if last.exists() else None, weights_only=True)


def made(config: DictConfig, directory: Path, *callbacks: pl.Callback) -> Run:
    """The objects of a run, not yet trained."""
    directory.mkdir(parents=True, exist_ok=True)
    trainer, record = assemble.trainer(settle(config), RunDirectory(directory), [])
    trainer.callbacks.extend(callbacks)  # type: ignore[attr-defined]
    return Run(assemble.method(config), assemble.datamodule(config), trainer, record)


def trained(folder: Path, *overrides: str, extra: tuple[pl.Callback, ...] = ()) -> tuple[pl.Trainer, Any, RunRecord]:
    """A small run in `folder`: trainer, method, record."""
    run = made(compose([*SMALL, *overrides]), folder, *extra)
    run.fit()
    return run.trainer, run.method, run.record


def in_pieces(config: DictConfig, directory: Path, *stops: tuple[int, int | None]) -> Run:
    """The run, stopped there and gone on with by objects that know nothing; the last of them.

    Args:
        config, directory: of the run.
        stops: an epoch, from 0, and after how many of its steps (one at least); None: at its end.
    """
    begins = (0, 0)
    for stop in (*stops, None):
        ends = [StopAfter(stop[0] + 1)] if stop and stop[1] is None else []
        run = made(config, directory, *ends)
        if begins != (0, 0):
            with torch.no_grad():
                for parameter in run.method.parameters():
                    parameter.zero_()  # nothing of it may count
        done = _watched(run, stop)
        if stop and stop[1]:
            with pytest.raises(Stopped), obeying_signals():
                run.fit()
            assert run.method.steps_of_epoch == stop[1]
            saved = [torch.load(path, weights_only=True)["epoch"] for path in _within(run)]
            assert saved == ([stop[0]] if run.method.saved_within_epoch else [])
            following = (stop[0], stop[1] if saved else 0)
        else:
            run.fit()
            following = (stop[0] + 1, 0) if stop else (0, 0)
        assert done[0] == begins, "it goes on with the step after, neither before nor later"
        begins = following
    return run


def _within(run: Run) -> list[Path]:
    return list((run.directory.path / "checkpoints").glob("within-*"))


def _watched(run: Run, stop: tuple[int, int | None] | None) -> list[tuple[int, int]]:
    """The steps that are done, as (epoch, steps of it before). In the one that ends at `stop` the run is told to."""
    done: list[tuple[int, int]] = []
    step = run.method.step

    def watched(batch: Any) -> None:
        done.append((run.trainer.current_epoch, run.method.steps_of_epoch))
        if stop and stop[1] and done[-1] == (stop[0], stop[1] - 1):
            os.kill(os.getpid(), signal.SIGUSR1)
        step(batch)

    run.method.step = watched  # type: ignore[method-assign]
    return done


def assert_the_same(mine: Run, its: Run) -> None:
    """Compare everything in the two runs, bit for bit."""
    a, b = mine.state, its.state
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []
    assert mine.method.steps == its.method.steps
    assert mine.schedules == its.schedules
    assert mine.rows == its.rows
