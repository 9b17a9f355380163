"""Runs that train together in one process: they meet for the steps of each epoch, and do all else by themselves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import pytorch_lightning as pl
import torch
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from slnlab.callbacks.best_epoch import BestEpoch
from slnlab.callbacks.epoch_timer import EpochTimer
from slnlab.callbacks.evaluation_schedule import skip_evaluation
from slnlab.callbacks.momentum import MomentumModel
from slnlab.callbacks.run_record import RunRecord
from slnlab.data.features import FeatureDataModule
from slnlab.methods.single_network import SingleNetwork
from slnlab.processes.stopping import stop_if_requested
from slnlab.processes.turns import Turns
from slnlab.schema.composable import COMPOSABLE
from slnlab.training import assemble
from slnlab.training.stacked_epoch import Learner, train_epoch

SAVED_EVERY = 10.0
"""Seconds between two checkpoints of a run. Saving all runs after each epoch would take longer than training them."""

TOGETHER = {"sln.sigma", "logit_clip.tau"}
"""Additions to a method's objective that `slnlab.training.stacked_epoch` computes."""

Found = TypeVar("Found")


def why_alone(config: DictConfig) -> str | None:
    """The reason why a run cannot train together with others; None: it can.

    Raises:
        ConfigError: its network cannot be made.
    """
    kinds = {section: get_class(config[section]._target_) for section in ("method", "data", "optimizer")}
    wanted: dict[str, Any] = {key: 0 for each in COMPOSABLE if each.parameter and (key := each.switch) not in TOGETHER}
    wanted |= {
        "data.oversampling": False,
        "trainer.devices": 1,
        "trainer.precision": "32-true",
        "trainer.compile": False,
        "trainer.profile": False,
        "optimizer.dampening": 0,
        "optimizer.maximize": False,
    }
    if kinds["method"] is not SingleNetwork:
        return f"method={config.method.name} has steps of its own"
    if not issubclass(kinds["data"], FeatureDataModule):
        return f"data={config.data.name} has images, not feature vectors"
    if kinds["optimizer"] is not torch.optim.SGD:
        return f"optimizer={config.optimizer.name} is not SGD"
    for key, value in wanted.items():
        if (found := OmegaConf.select(config, key, default=value)) != value:
            return f"{key}={found}"
    if not config.loss._target_.startswith("slnlab."):
        return f"loss._target_={config.loss._target_} may look at its whole batch"
    if config.logger.name == "wandb":
        return "W&B records one run of a process at a time"
    return assemble.why_not_stacked(config)


class Company:
    """Runs of one process that train together."""

    def __init__(self) -> None:
        self._turns = Turns(self._meet)
        self._shared: list[Tensor] = []

    def run(self, jobs: Sequence[Callable[[], Any]]) -> list[Any]:
        """Do the jobs, see `Turns.run`. Each trains a run, with a `Together` of this company among its callbacks."""
        return self._turns.run(jobs)

    def train(self, learner: Learner) -> None:
        """Train an epoch of a run together with the other runs. Called in the thread of its job."""
        self._turns.wait(learner)

    def shared(self, tensor: Tensor) -> Tensor:
        """The first of the equal tensors, so that the runs' steps read the same one."""
        for other in self._shared:
            if other is tensor or (other.shape == tensor.shape and torch.equal(other, tensor)):
                return other
        self._shared.append(tensor)
        return tensor

    def _meet(self, learners: list[Learner]) -> None:
        groups: dict[Any, list[Learner]] = defaultdict(list)
        for learner in learners:
            groups[learner.kind()].append(learner)
        for group in groups.values():
            train_epoch(group)


class Together(pl.Callback):
    """Trains the epochs of a run in a company. An epoch that was stopped between two steps ends alone.

    The run is evaluated there too. Its `seconds` are its share of those of the company.

    Args:
        company: the company.
    """

    def __init__(self, company: Company) -> None:
        self.company = company

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SingleNetwork)
        _one(trainer, RunRecord).save_every = SAVED_EVERY
        pl_module.whole_epoch = partial(self._epoch, trainer, pl_module)
        self._learner: Learner | None = None

    def _epoch(self, trainer: pl.Trainer, method: SingleNetwork) -> None:
        stop_if_requested()
        timer = _one(trainer, EpochTimer)
        before = timer.spent
        if self._learner is None:  # by now a checkpoint is loaded and the momentum model exists
            self._learner = self._joining(trainer, method)
        learner = self._learner
        learner.epoch, learner.evaluates = trainer.current_epoch, method.evaluation.due
        self.company.train(learner)
        timer.add(learner.seconds - (timer.spent - before))
        if learner.evaluates:
            method.note(learner.measured)
            for best in _all(trainer, BestEpoch):
                best.take(method, learner.measured)
            skip_evaluation(trainer)

    def _joining(self, trainer: pl.Trainer, method: SingleNetwork) -> Learner:
        data, averages = method.data, _all(trainer, MomentumModel)
        assert isinstance(data, FeatureDataModule)
        splits: dict[str, tuple[Tensor, Tensor]] = {}
        for split in data.evaluation_splits:
            inputs, labels = data.evaluation_inputs(split)
            splits[split] = self.company.shared(inputs), labels
        average = averages[0].averages["network"] if averages else None
        return Learner(method, trainer.optimizers[0], average, self.company.shared(data.inputs()), splits)


def _all(trainer: pl.Trainer, kind: type[Found]) -> list[Found]:
    return [callback for callback in trainer.callbacks if isinstance(callback, kind)]  # type: ignore[attr-defined]


def _one(trainer: pl.Trainer, kind: type[Found]) -> Found:
    (callback,) = _all(trainer, kind)
    return callback
