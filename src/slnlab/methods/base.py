"""The base of every method: optimiser steps, evaluation, and the checkpoint of the sample table."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import islice
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.profilers import PyTorchProfiler
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.profiler import record_function

from slnlab.data.batches import Batch, EvaluationBatch
from slnlab.data.datamodule import STEPS_PER_CALL, IndexedDataModule
from slnlab.methods.ensemble import Ensemble
from slnlab.methods.evaluation import Evaluation
from slnlab.methods.stated import Stated
from slnlab.processes.distributed import average_buffers, rank, stop_if_requested, world_size
from slnlab.processes.float32 import without_autocast
from slnlab.samples import SampleTable
from slnlab.streams import Streams, derive

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]
SchedulerFactory = Callable[[Optimizer], LRScheduler]


class Method(Stated, pl.LightningModule, ABC):
    """A way to learn from noisy labels.

    A subclass writes `loss(batch)`, and `step` if one optimiser step is more than descending it. Several
    optimiser steps share one `training_step` (Lightning's cost per call is larger than a small network's step),
    so `steps` counts them, not `trainer.global_step`.

    Each process has its part of every batch. Computations per sample need no care. A mean is `batch.mean`, a draw is
    made for the whole batch and cut (`normal`), and samples are compared after `slnlab.processes.distributed.gather`.
    The run then equals that of a single process up to rounding (and up to batch norm, which sees one process's part
    unless trainer.sync_batchnorm).

    `judged` holds the networks to evaluate by their names in the record: `network`, and `momentum` once the momentum
    model's callback has added it. A plain dict neither saves nor trains them.

    Several networks are also evaluated as `ensemble` (their mean logits). The record's row `mean` is the mean of their
    results, as papers on two-network methods report it.

    Args:
        networks: networks to train, in the order of `network_names`; each gets an optimiser of its own.
        optimizer: parameters → optimiser.
        scheduler: optimiser → learning-rate schedule, stepped once per epoch; None: constant.
        seed: seed of every draw of the method.
        reset_optimizer_each_epoch: forget momentum and the like at the start of every epoch (Chen et al. 2020
            make a new optimiser there).
        clip_norm: largest norm of all gradients of a network together; None: no clipping.
    """

    def __init__(
        self,
        *networks: nn.Module,
        optimizer: OptimizerFactory,
        scheduler: SchedulerFactory | None = None,
        seed: int = 0,
        reset_optimizer_each_epoch: bool = False,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.networks = nn.ModuleDict(dict(zip(self.network_names, networks, strict=True)))
        self.heads = nn.ModuleDict()
        """Modules that the first network's optimiser also trains. They only serve training, so nothing judges them."""
        self.judged: dict[str, nn.Module] = dict(self.networks.items())
        self.means: dict[str, tuple[str, ...]] = {}
        """Rows of the record that are means: name → names of the averaged rows."""
        if len(networks) > 1:
            self.judged["ensemble"] = Ensemble(networks)
            self.means["mean"] = self.network_names
        self.optimizer_factory, self.scheduler_factory = optimizer, scheduler
        self.seed = seed
        self.reset_optimizer_each_epoch = reset_optimizer_each_epoch
        self.clip_norm = clip_norm
        self.steps = 0
        self.steps_of_epoch = 0
        """Finished steps of the current epoch."""
        self.epoch_trained = False
        """True once the work after the last step is done too."""
        self.seen: list[Tensor] = []
        """Rows of the sample table that this one of several processes has written in this epoch."""
        self.table: SampleTable
        self.streams: Streams
        self._left: Iterator[Callable[[], Any]]
        self.evaluation = Evaluation()
        self.whole_epoch: Callable[[], None] | None = None
        """Does and counts all steps of an epoch (`slnlab.training.together`); None: `step` does each."""
        self._named: Callable[[str], AbstractContextManager[Any]] = nullcontext  # for the profiler

    @property
    def data(self) -> IndexedDataModule:
        """The run's data, from `setup` on."""
        return self.trainer.datamodule  # type: ignore[attr-defined]

    @property
    def network(self) -> nn.Module:
        """The first network."""
        return next(iter(self.networks.values()))

    # One optimiser step

    def batches(self, epoch: int) -> Iterable[Callable[[], Any]]:
        """The steps of an epoch, counted from 0: `step` gets the value that each returns when called."""
        return self.data.epoch(epoch)

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """This process's share of the batch's loss (see `Batch.mean`), a scalar. Also calls `observe`."""

    def step(self, batch: Batch) -> None:
        """One optimiser step."""
        with self.forward_pass():
            loss = self.loss(batch)
        self.descend(loss)

    @contextmanager
    def forward_pass(self) -> Iterator[None]:
        """Around networks and loss of a step: the precision of the run, and a name in profiles."""
        # Copies of the weights in half precision may be older than the last step. Lightning 2.6 keeps none. By its pull
        # request 21616 a later one does, until the end of its training step, which has many of ours.
        torch.clear_autocast_cache()
        with self._named("forward and loss"), self.trainer.precision_plugin.forward_context():
            yield

    def descend(self, loss: Tensor, network: int | None = None) -> None:
        """One step down the sum of all processes' losses; `loss` is this process's share. See `take_step`."""
        self.differentiate(loss)
        self.take_step(network)

    def take_step(self, network: int | None = None) -> None:
        """Clip the gradients and step all optimisers, or only that of the network with this number."""
        self.clip()
        with self._named("optimiser and momentum model"):
            for optimizer in self._optimizers if network is None else [self._optimizers[network]]:
                optimizer.step()

    def differentiate(self, loss: Tensor) -> None:
        """Replace the gradients by those of the sum of all processes' losses."""
        with self._named("backward"), without_autocast(self.device):
            for optimizer in self._optimizers:
                optimizer.zero_grad(set_to_none=True)
            if world_size() > 1:
                self.manual_backward(loss * world_size())  # DDP takes the mean of the gradients
            else:
                loss.backward()

    def clip(self) -> None:
        """Scale the gradients of each network down to the norm `clip_norm`."""
        if self.clip_norm is not None:
            for parameters in self.trained():
                nn.utils.clip_grad_norm_(parameters, self.clip_norm)

    def trained(self) -> list[list[nn.Parameter]]:
        """The parameters of each optimiser: those of a network, and for the first those of the heads."""
        first, *others = (list(network.parameters()) for network in self.networks.values())
        return [[*first, *self.heads.parameters()], *others]

    def observe(self, index: Tensor, logits: Tensor) -> None:
        """Write what these logits say about training samples into the table, see `SampleTable.observe`."""
        self.table.observe(index, logits)
        if world_size() > 1:
            self.seen.append(index)

    def normal(self, purpose: str, batch: Batch) -> Tensor:
        """Standard normal draws (B, C) for the samples of the batch, independent of the number of processes."""
        shape = (batch.shard.total, self.table.num_classes)
        drawn = torch.randn(shape, generator=self.streams(purpose, self.steps), device=batch.index.device)
        return batch.shard.of(drawn)

    def seed_globally(self, purpose: str, position: int) -> None:
        """Seed PyTorch's global generators (dropout and others): equal after a resume, different in each process."""
        torch.manual_seed(derive(self.seed, purpose, position, *([rank()] if rank() else [])))

    # What Lightning calls

    def setup(self, stage: str) -> None:
        if stage != "fit" and hasattr(self, "table"):
            return
        labels = self.data.labels
        known = {"true": labels.true, "wrong": labels.wrong, "sample_weight": labels.weight}
        self.table = SampleTable(labels.given, self.data.num_classes, **known, repeats=self.data.oversampling)
        if labels.target is not None:
            rows = torch.arange(len(labels.given), device=labels.given.device)
            self.table.correct(rows, torch.zeros(len(rows), device=rows.device), labels.target)
        self.table.watch()

    def on_fit_start(self) -> None:
        self.streams = Streams(self.seed, self.device)
        if isinstance(self.trainer.profiler, PyTorchProfiler):  # type: ignore[attr-defined]
            self._named = record_function

    def new_optimizers(self) -> list[Optimizer]:
        """One optimiser for each network, in their order; a method may append others."""
        return [self.optimizer_factory(parameters) for parameters in self.trained()]

    def configure_optimizers(self) -> Any:
        optimizers = self.new_optimizers()
        if self.scheduler_factory is None:
            return optimizers
        return optimizers, [self.scheduler_factory(optimizer) for optimizer in optimizers]

    def on_train_epoch_start(self) -> None:
        self.seed_globally("global", self.current_epoch)
        self.steps_of_epoch, self.epoch_trained = 0, False
        optimizers = self.optimizers(use_pl_optimizer=False)
        self._optimizers: list[Optimizer] = optimizers if isinstance(optimizers, list) else [optimizers]
        if self.reset_optimizer_each_epoch:
            for optimizer in self._optimizers:
                optimizer.state.clear()

    def training_step(self, _: object, call: int) -> None:
        # The method defines the epoch's steps. Lightning only calls a fixed number of times; its batch is not read.
        if call == 0 and self.whole_epoch is not None and not self.steps_of_epoch:
            self.whole_epoch()
            self._per_call, self._left = 0, iter(())
        elif call == 0:
            steps = [*self.batches(self.current_epoch)]
            self._per_call = max(STEPS_PER_CALL, math.ceil(len(steps) / self.trainer.num_training_batches))
            self._left = iter(steps[self.steps_of_epoch :])  # the first were done before the run was stopped
        for make in islice(self._left, self._per_call):
            self.step(make())
            self.steps += 1
            self.steps_of_epoch += 1
            if self.table.repeats:  # another process may have a copy of a sample in the next step
                self._share()
            stop_if_requested()
        if self.trainer.is_last_batch and not self.epoch_trained:
            # Not in on_train_epoch_end: callbacks come before it there, and one of them saves the checkpoint.
            schedulers = self.lr_schedulers() or []
            for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
                scheduler.step()  # type: ignore[call-arg]
            self._agree()
            self.epoch_trained = True

    def _agree(self) -> None:
        """Equalise the processes' buffers and tables before evaluation, correction and checkpoints."""
        average_buffers(self.judged.values())
        self._share()

    def _share(self) -> None:
        """Equalise the rows of the table that the processes have written."""
        if self.seen:
            self.table.share(torch.cat(self.seen))
            self.seen.clear()

    def note(self, values: Mapping[str, float | Tensor]) -> None:
        """Add values to the row of this epoch, as `log_dict` would. That costs a millisecond for each value."""
        self.trainer.callback_metrics.update(values)  # type: ignore[arg-type]  # numbers do too

    def validation_step(self, batch: EvaluationBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._evaluate(self.data.evaluation_splits[dataloader_idx], batch)

    def on_validation_epoch_end(self) -> None:
        self._log_evaluation()

    def test_step(self, batch: EvaluationBatch, batch_idx: int) -> None:
        self._evaluate("test", batch)

    def on_test_epoch_end(self) -> None:
        self._log_evaluation()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["sample_table"] = self.table.state_dict(copies=False)
        checkpoint["steps"] = self.steps

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if hasattr(self, "table"):  # not when only the weights are wanted
            self.table.load_state_dict(checkpoint["sample_table"])
        self.steps = checkpoint["steps"]

    def _evaluate(self, split: str, batch: EvaluationBatch) -> None:
        stop_if_requested()
        self.evaluation.update(split, self.judged, batch, self.table.num_classes)

    def _log_evaluation(self) -> None:
        # While training, the run record writes to the loggers, once per epoch; otherwise Lightning does.
        log = self.note if self.trainer.state.fn == TrainerFn.FITTING else self.log_dict
        log(self.evaluation.results(self.means))
        self.evaluation.clear()
