"""What every method shares: the loop of optimiser steps, the evaluations, the sample table's checkpoint."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from pytorch_lightning.profilers import PyTorchProfiler
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.profiler import record_function
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy

from slnlab.data.batches import Batch, EvaluationBatch
from slnlab.data.datamodule import STEPS_PER_CALL, IndexedDataModule
from slnlab.methods.ensemble import Ensemble
from slnlab.models.modes import evaluating
from slnlab.processes.distributed import average_buffers, rank, stop_if_requested, world_size
from slnlab.record.result import NoiseRateUsed, TransitionUsed
from slnlab.samples import SampleTable
from slnlab.streams import Streams, derive

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]
SchedulerFactory = Callable[[Optimizer], LRScheduler]


class Method(pl.LightningModule):
    """A way to learn from noisy labels.

    A subclass writes `loss(batch)`, and `step` when one optimiser step is more than descending it. Several
    optimiser steps share one `training_step` (Lightning's cost per call is larger than a small network's step),
    so `steps` counts them, not `trainer.global_step`.

    In several processes each has its part of every batch. What a method computes per sample needs no thought; a mean
    is `batch.mean`, a draw is made for the whole batch and cut (`normal`), and what depends on other samples is
    compared after `slnlab.processes.distributed.gather`. Then the run is the one of a single process, but for rounding
    (and batch norm, which sees a process's part unless trainer.sync_batchnorm).

    Who is evaluated stands in `judged`, by the names that the record uses: `network`, and `momentum` once the
    momentum model's callback has added itself. It is a plain dict, so that nobody is saved or trained through it.

    Where there are several networks, `ensemble` (their mean logits) is evaluated too, and the row `mean` of the record
    is the mean of their results, as the papers of two-network methods report it.

    Args:
        networks: to train, as many as `network_names` and in its order; each gets an optimiser of its own.
        optimizer: parameters → optimiser.
        scheduler: optimiser → learning-rate schedule, stepped once per epoch; None: constant.
        seed: of every draw that the method makes.
        reset_optimizer_each_epoch: forget momentum and the like at the start of every epoch (Chen et al. 2020
            make a new optimiser there).
        clip_norm: norm that all gradients of a network together are clipped to; None: not.
    """

    network_names: ClassVar[tuple[str, ...]] = ("network",)
    """Of the networks that the constructor takes, in this order."""

    # Literals, read from the source; an option's YAML may add to the last three. See `slnlab.schema.options.Law`.
    rows: ClassVar[dict[str, str]] = {"network": "{}", "momentum": "{}-MO"}
    refuses: ClassVar[dict[str, str]] = {}
    needs: ClassVar[dict[str, str]] = {}
    fixed: ClassVar[dict[str, Any]] = {}

    trains_in_turn: ClassVar[bool] = False
    """Whether a step may leave networks, or parts of one, without a gradient: several processes have to know it."""

    in_three_epochs: ClassVar[dict[str, Any]] = {}
    """Values of keys below `method` with which three epochs show all that it does, for a first look and for the tests.
    The third epoch is as all that would follow."""

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
        self.judged: dict[str, nn.Module] = dict(self.networks.items())
        self.means: dict[str, tuple[str, ...]] = {}
        """Names of rows of the record, and of which others each is the mean."""
        if len(networks) > 1:
            self.judged["ensemble"] = Ensemble(networks)
            self.means["mean"] = self.network_names
        self.optimizer_factory, self.scheduler_factory = optimizer, scheduler
        self.seed = seed
        self.reset_optimizer_each_epoch = reset_optimizer_each_epoch
        self.clip_norm = clip_norm
        self.steps = 0
        self.steps_of_epoch = 0
        """Those that are done."""
        self.epoch_trained = False
        """Whether what follows the last of them is done too."""
        self.seen: list[Tensor] = []
        """Of several processes: the rows of the sample table that this one has written since the epoch began."""
        self.table: SampleTable
        self.streams: Streams
        self._left: Iterator[Callable[[], Any]]
        self._metrics: dict[tuple[str, str], tuple[Metric, Metric]] = {}
        self._named: Callable[[str], AbstractContextManager[Any]] = nullcontext  # for the profiler

    @property
    def saved_within_epoch(self) -> bool:
        """Whether what the steps of this epoch change is what every method's do: networks, optimisers, sample table."""
        return True

    @property
    def noise_rate_used(self) -> NoiseRateUsed | None:
        """For the result; None: the method needs no noise rate."""
        return None

    @property
    def transition_used(self) -> TransitionUsed | None:
        """For the result; None: the method needs no transition matrix."""
        return None

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
        """The steps of an epoch, from 0: what each makes when it is called is handed to `step`."""
        return self.data.epoch(epoch)

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """This process's share of the batch's loss (see `Batch.mean`), a scalar to descend. Also calls `observe`."""

    def step(self, batch: Batch) -> None:
        """One optimiser step."""
        with self._named("forward and loss"), self.trainer.precision_plugin.forward_context():
            loss = self.loss(batch)
        self.descend(loss)

    def descend(self, loss: Tensor, network: int | None = None) -> None:
        """One step down the sum of all processes' losses, of which `loss` is this process's share; see `take_step`."""
        self.differentiate(loss)
        self.take_step(network)

    def take_step(self, network: int | None = None) -> None:
        """Clip the gradients, and let the optimisers step, or the one of the network of this number."""
        self.clip()
        with self._named("optimiser and momentum model"):
            for optimizer in self._optimizers if network is None else [self._optimizers[network]]:
                optimizer.step()

    def differentiate(self, loss: Tensor) -> None:
        """Put the gradients of the sum of all processes' losses in the place of those before."""
        with self._named("backward"):
            for optimizer in self._optimizers:
                optimizer.zero_grad(set_to_none=True)
            if world_size() > 1:
                self.manual_backward(loss * world_size())  # DDP takes the mean of the gradients
            else:
                loss.backward()

    def clip(self) -> None:
        """Scale the gradients of each network down to `clip_norm`, where they are longer."""
        if self.clip_norm is not None:
            for network in self.networks.values():
                nn.utils.clip_grad_norm_(network.parameters(), self.clip_norm)

    def observe(self, index: Tensor, logits: Tensor) -> None:
        """Remember what the network said about its training samples, for the memorisation monitor.

        The loss is always the cross entropy against the *given* label, without SLN or correction, so that it
        means the same for every method.
        """
        logits = logits.detach().float()
        self.table["loss"][index] = cross_entropy(logits, self.table["given"][index], reduction="none")
        self.table["prediction"][index] = logits.argmax(1)
        if world_size() > 1:
            self.seen.append(index)

    def normal(self, purpose: str, batch: Batch) -> Tensor:
        """Standard normal draws (B, C) for the samples of the batch; a sample's do not depend on the processes."""
        shape = (batch.shard.total, self.table.num_classes)
        drawn = torch.randn(shape, generator=self.streams(purpose, self.steps), device=batch.index.device)
        return batch.shard.of(drawn)

    def seed_globally(self, purpose: str, position: int) -> None:
        """Dropout and whatever else draws from PyTorch's global generators goes on from here: the same after a resume,
        another in each process."""
        torch.manual_seed(derive(self.seed, purpose, position, *([rank()] if rank() else [])))

    # What Lightning calls

    def setup(self, stage: str) -> None:
        if stage != "fit" and hasattr(self, "table"):
            return
        labels = self.data.labels
        self.table = SampleTable(labels.given, self.data.num_classes, true=labels.true, wrong=labels.wrong)
        self.table.add("loss")
        self.table.add("prediction", dtype=torch.int64)

    def on_fit_start(self) -> None:
        self.streams = Streams(self.seed, self.device)
        if isinstance(self.trainer.profiler, PyTorchProfiler):  # type: ignore[attr-defined]
            self._named = record_function

    def configure_optimizers(self) -> Any:
        optimizers = [self.optimizer_factory(network.parameters()) for network in self.networks.values()]
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
        # The method says what the epoch's steps are. What Lightning hands over is left unread: it only says when, in a
        # fixed number of calls.
        if call == 0:
            steps = [*self.batches(self.current_epoch)]
            self._per_call = max(STEPS_PER_CALL, math.ceil(len(steps) / self.trainer.num_training_batches))
            self._left = iter(steps[self.steps_of_epoch :])  # the first were done before the run was stopped
        for make in islice(self._left, self._per_call):
            self.step(make())
            self.steps += 1
            self.steps_of_epoch += 1
            stop_if_requested()
        if self.trainer.is_last_batch and not self.epoch_trained:
            # Not in on_train_epoch_end: callbacks come before it there, and one of them saves the checkpoint.
            schedulers = self.lr_schedulers() or []
            for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
                scheduler.step()  # type: ignore[call-arg]
            self._agree()
            self.epoch_trained = True

    def _agree(self) -> None:
        """Make what the processes have apart the same in all, before anything is evaluated, corrected or saved."""
        average_buffers(self.judged.values())
        if self.seen:
            self.table.share(torch.cat(self.seen))
            self.seen.clear()

    def validation_step(self, batch: EvaluationBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._evaluate(self.data.evaluation_splits[dataloader_idx], batch)

    def on_validation_epoch_end(self) -> None:
        self._log_evaluation()

    def test_step(self, batch: EvaluationBatch, batch_idx: int) -> None:
        self._evaluate("test", batch)

    def on_test_epoch_end(self) -> None:
        self._log_evaluation()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["sample_table"] = self.table.state_dict()
        checkpoint["steps"] = self.steps

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if hasattr(self, "table"):  # not when only the weights are wanted
            self.table.load_state_dict(checkpoint["sample_table"])
        self.steps = checkpoint["steps"]

    # Evaluation: every judged network on every split, accumulated on the device

    def _evaluate(self, split: str, batch: EvaluationBatch) -> None:
        stop_if_requested()
        said: dict[nn.Module, Tensor] = {}
        for name, network in self.judged.items():
            if (split, name) not in self._metrics:
                made = MulticlassAccuracy(self.table.num_classes, average="micro", validate_args=False)
                mean = MeanMetric(nan_strategy=math.nan)  # by default it leaves NaNs out and is finite
                self._metrics[split, name] = (made.to(self.device), mean.to(self.device))
            if not len(batch.label):  # another process has all of this batch
                continue
            with evaluating(network):  # the momentum model is no submodule, so Lightning does not switch it
                if isinstance(network, Ensemble) and all(member in said for member in network.members):
                    said[network] = network.of(said[member] for member in network.members)
                else:
                    # A copy, as the next network's CUDA graph may overwrite it (trainer.compile).
                    said[network] = network(batch.image).clone()
            logits = said[network].float()
            accuracy, loss = self._metrics[split, name]
            accuracy.update(logits, batch.label)
            loss.update(cross_entropy(logits, batch.label), weight=len(batch.label))

    def _log_evaluation(self) -> None:
        # While training, the run record writes to the loggers, once per epoch; otherwise it is Lightning that does.
        to_logger = False if self.trainer.state.fn == TrainerFn.FITTING else None
        values = {
            (split, name, key): metric.compute()
            for (split, name), metrics in self._metrics.items()
            for key, metric in zip(("accuracy", "loss"), metrics, strict=True)
        }
        for split, key in {(split, key): None for split, _, key in values}:
            for name, members in self.means.items():
                values[split, name, key] = torch.stack([values[split, member, key] for member in members]).mean()
        for (split, name, key), value in values.items():
            self.log(f"{split}/{name}/{key}", value, logger=to_logger)
        self._metrics.clear()  # the next evaluation may be of other splits
