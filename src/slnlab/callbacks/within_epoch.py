"""Checkpoints within an epoch: a stopped run is saved between two steps, and continues there."""

from __future__ import annotations

import logging
import secrets
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from slnlab.callbacks.epoch_timer import EpochTimer
from slnlab.errors import DataError
from slnlab.methods.base import Method
from slnlab.processes.distributed import from_rank_zero, gather, rank, world_size
from slnlab.processes.stopping import Stopped
from slnlab.record.checkpoints import Checkpoints

log = logging.getLogger(__name__)


class WithinEpoch(pl.Callback):
    """Saves a run between two steps of an epoch, at a stop or every so many steps, and resumes it there.

    The file contains only state that steps change. A resumed run repeats the work at the start of the epoch (label
    correction, a method's split of the samples) from the checkpoint of the epoch before, with equal results. Then it
    loads this file, and skips the finished steps.

    Each process has its own file, because running statistics and sample tables differ until the end of the epoch. The
    files are used only if all exist, for the same step and the same start of the run. Otherwise the run continues after
    its last finished epoch.

    It must be the last callback: an epoch counts as begun until the run record has saved it.

    Args:
        checkpoints: checkpoints of the run; `within-<process>.ckpt` lies beside them.
        timer: the epoch timer, which also counts the seconds before a stop.
        every_steps: also save every so many steps (in whole calls by Lightning, see `STEPS_PER_CALL`); None: only at a
            stop.
    """

    def __init__(self, checkpoints: Checkpoints, timer: EpochTimer, every_steps: int | None = None) -> None:
        self.checkpoints, self.timer, self.every_steps = checkpoints, timer, every_steps
        self._found: dict[str, Any] | None = None
        self._start = 0
        """Random number of this start of the run: on GPUs another start gives other bits."""
        self._saved = self._tried = 0
        """Steps of the epoch that are on disk, and steps at the last attempt to save."""

    @property
    def path(self) -> Path:
        """This process's file."""
        return self.checkpoints.last.with_name(f"within-{rank()}.ckpt")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start = from_rank_zero(lambda: secrets.randbits(62))
        self._found = self._load(trainer.current_epoch)
        mine = (self._found["steps_of_epoch"], self._found["start"]) if self._found else (0, 0)
        everyones = gather(torch.tensor([mine], device=pl_module.device))  # a process without a file takes part too
        if not bool((everyones == everyones[0]).all()):
            self._found = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._saved = self._tried = 0

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if self._found is not None:  # the work at the start of the epoch is done by now
            self._put_back(trainer, pl_module, self._found)
            self._found = None

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        assert isinstance(pl_module, Method)
        if self.every_steps and pl_module.steps_of_epoch - self._tried >= self.every_steps:
            self._save(trainer, pl_module)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if isinstance(exception, Stopped) and exception.between_steps:
            self._save(trainer, pl_module)
            # All processes wait until all have saved, as the first to leave ends the others. If one could not save,
            # the files of the others are useless, and would wrongly show that the run has progressed.
            saved = torch.tensor([self._saved], device=pl_module.device)
            if self._saved != int(gather(saved).min()):
                self.path.unlink(missing_ok=True)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Method)
        pl_module.steps_of_epoch = 0  # the run record has saved the epoch

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if rank() == 0:
            for path in self.path.parent.glob("within-*.ckpt"):  # also those of an earlier start with more processes
                path.unlink(missing_ok=True)

    def _save(self, trainer: pl.Trainer, method: pl.LightningModule) -> None:
        assert isinstance(method, Method)
        if self._found is not None or method.steps_of_epoch <= self._saved or not method.saved_within_epoch:
            return
        self._tried = method.steps_of_epoch
        of_method: dict[str, Any] = {}
        method.on_save_checkpoint(of_method)
        device = method.device
        state = {
            "epoch": trainer.current_epoch,
            "start": self._start,
            "processes": world_size(),
            "steps_of_epoch": method.steps_of_epoch,
            "epoch_trained": method.epoch_trained,
            "seen": torch.cat(method.seen) if method.seen else None,
            "seconds": self.timer.spent,
            "method": of_method,
            "modules": method.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in trainer.optimizers],
            "schedulers": [each.scheduler.state_dict() for each in trainer.lr_scheduler_configs],
            "callbacks": {
                callback.state_key: its
                for callback in trainer.callbacks  # type: ignore[attr-defined]
                if (its := callback.state_dict())
            },
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        }
        try:
            self.checkpoints.save_checkpoint(state, self.path)
        except DataError as error:
            log.warning("%s. A stop costs the work since the last save", error)
        else:
            self._saved = method.steps_of_epoch

    def _load(self, epoch: int) -> dict[str, Any] | None:
        if not self.path.exists():
            return None
        try:
            state = self.checkpoints.load_checkpoint(self.path)
        except DataError as error:
            log.warning("%s; the run continues after its last finished epoch", error)
            return None
        return state if (state["epoch"], state["processes"]) == (epoch, world_size()) else None

    def _put_back(self, trainer: pl.Trainer, method: pl.LightningModule, state: dict[str, Any]) -> None:
        assert isinstance(method, Method)
        method.load_state_dict(state["modules"])
        for optimizer, its in zip(trainer.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(its)
        for each, its in zip(trainer.lr_scheduler_configs, state["schedulers"], strict=True):
            each.scheduler.load_state_dict(its)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if callback.state_key in state["callbacks"]:
                callback.load_state_dict(state["callbacks"][callback.state_key])
        method.on_load_checkpoint(state["method"])
        method.steps_of_epoch = self._saved = self._tried = state["steps_of_epoch"]
        method.epoch_trained = state["epoch_trained"]
        method.seen = [] if state["seen"] is None else [state["seen"].to(method.device)]
        self.timer.add(state["seconds"])
        torch.set_rng_state(state["random"])
        if state["random_cuda"] is not None and method.device.type == "cuda":
            torch.cuda.set_rng_state(state["random_cuda"], method.device)
        if rank() == 0:
            log.info("going on after step %d of epoch %d", state["steps_of_epoch"], state["epoch"] + 1)
