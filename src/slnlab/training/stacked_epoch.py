"""One epoch of several runs as one batched computation. Each run equals itself alone, up to float32 rounding."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, one_hot
from torch.optim import Optimizer

from slnlab.callbacks.momentum import MomentumAverage
from slnlab.losses import logit_clip
from slnlab.methods.single_network import SingleNetwork
from slnlab.models.stacked import Stack
from slnlab.record.result import TOP5_CLASSES

RUNS_AT_ONCE = 16
"""Runs in one stack. The tensors of more do not stay in a core's cache; fewer share the cost of each call less."""

EVALUATED_AT_ONCE = 500
"""Samples in a batch of an evaluation, likewise."""


@dataclass
class Learner:
    """A run that trains together with others.

    Args:
        method: its method, without mixup and SAM, and its network, which can be stacked.
        optimizer: its optimiser, SGD with one group of parameters.
        average: its momentum model, if it has one.
        inputs: inputs (N, D) for all rows of the sample table.
        splits: evaluation split → inputs (M, D) and labels (M,).
    """

    method: SingleNetwork
    optimizer: Optimizer
    average: MomentumAverage | None
    inputs: Tensor
    splits: Mapping[str, tuple[Tensor, Tensor]]
    epoch: int = 0
    """The epoch to train, from 0."""
    evaluates: bool = True
    """True if an evaluation follows it."""
    measured: dict[str, float] = field(default_factory=dict)
    """Results of the latest evaluation, by their names in the record."""
    seconds: float = 0.0
    """This run's share of the seconds of training in the latest epoch."""

    @property
    def options(self) -> Mapping[str, Any]:
        """The options of the optimiser."""
        return self.optimizer.param_groups[0]

    def kind(self) -> tuple[Any, ...]:
        """Learners of equal kind can be stacked: they have the same inputs, sizes and options that are no numbers."""
        data, state = self.method.data, self.method.network.state_dict()
        inputs = [id(self.inputs), *((split, id(inputs)) for split, (inputs, _) in self.splits.items())]
        sizes = [len(data.rows(self.epoch)), data.batch_size, data.num_classes]
        shapes = [(name, tensor.shape) for name, tensor in state.items()]
        return *inputs, *sizes, *shapes, self.average is None, self.options["nesterov"]


def train_epoch(learners: Sequence[Learner]) -> None:
    """Train an epoch of each run, each its own, and evaluate.

    Args:
        learners: of equal `kind`.
    """
    learners = sorted(learners, key=lambda learner: repr(_objective(learner.method)))  # one call for each loss
    for start in range(0, len(learners), RUNS_AT_ONCE):
        some = learners[start : start + RUNS_AT_ONCE]
        begin = time.perf_counter()
        judged = _Epoch(some).train()
        for learner in some:
            learner.seconds = (time.perf_counter() - begin) / len(some)
        if any(learner.evaluates for learner in some):
            _evaluate(some, judged)


class _Epoch:
    """The state of K runs during an epoch. Tensors are (K, …), and samples are in the order of each run's epoch."""

    def __init__(self, learners: Sequence[Learner]) -> None:
        self.learners = learners
        self.methods = [learner.method for learner in learners]
        self.num_classes = self.methods[0].table.num_classes
        batches = [learner.method.data.order(learner.epoch) for learner in learners]
        self.sizes = [len(rows) for rows in batches[0]]
        self.order = torch.stack([torch.cat(each) for each in batches])
        # One place for the inputs of every step: new memory at each step would cost as much as the copy into it.
        self.inputs = learners[0].inputs.new_empty(len(learners) * max(self.sizes), learners[0].inputs.shape[1])

        self.stack = Stack([method.network for method in self.methods])
        averages = [learner.average for learner in learners if learner.average is not None]
        self.average = Stack([average.module for average in averages]) if averages else None
        self.follow = self._each(1 - average.decay for average in averages)

        self.given, self.weight, self.predicted = map(self._column, ("given", "weight", "predicted"))
        self.soft = self._soft() if any("soft" in method.table for method in self.methods) else None
        self.corrected = bool((self.weight != 1).any())
        self.counts = self._column("sample_weight") if "sample_weight" in self.methods[0].table else None
        self.sigma = self._each(method.sln.sigma for method in self.methods).view(-1, 1, 1)
        self.noise = torch.zeros(len(learners), max(self.sizes), self.num_classes, device=self.order.device)
        self.losses = [*_losses(self.methods)]

        options = [learner.options for learner in learners]
        self.rate, self.decay, self.momentum = (
            self._each(option[key] for option in options) for key in ("lr", "weight_decay", "momentum")
        )
        self.nesterov = options[0]["nesterov"]
        norms = [method.clip_norm or math.inf for method in self.methods]
        self.norms = self._each(norms) if min(norms) < math.inf else None
        self.velocity = [torch.stack(each) for each in zip(*map(_velocities, learners), strict=True)]

    def train(self) -> dict[str, Stack]:
        """Do all steps, write the state back to the runs, and return the networks to evaluate by their names."""
        observed: list[tuple[Tensor, Tensor, Tensor]] = []
        start = 0
        for step, size in enumerate(self.sizes):
            part = slice(start, start + size)
            logits = self.stack(self._inputs(part), training=True)
            observed.append(self._observed(logits.detach(), part))
            loss = self._loss(logits, self._targets(part, step), part)
            self._step(torch.autograd.grad(loss, self.stack.parameters))
            start += size
        self._write_back(*(torch.cat(columns, 1) for columns in zip(*observed, strict=True)))
        return {"network": self.stack} | ({"momentum": self.average} if self.average else {})

    def _inputs(self, part: slice) -> Tensor:
        """Inputs (K, D, B)."""
        rows, inputs = self.order[:, part], self.learners[0].inputs
        found = torch.index_select(inputs, 0, rows.flatten(), out=self.inputs[: rows.numel()])
        return found.view(*rows.shape, -1).transpose(1, 2)

    def _observed(self, logits: Tensor, part: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, prediction and margin (K, B), see `SampleTable.observe`."""
        given = self.given[:, None, part]
        own, likelihood = (values.gather(1, given).squeeze(1) for values in (logits, log_softmax(logits, 1)))
        largest_other = logits.scatter(1, given, -torch.inf).amax(1)
        return -likelihood, logits.max(1).indices, own - largest_other

    def _targets(self, part: slice, step: int) -> Tensor:
        """Targets (K, C, B) with SLN's noise."""
        given, weight = self.given[:, None, part], self.weight[:, None, part]
        if self.soft is not None:
            targets = (1 - weight) * self.soft[:, part].transpose(1, 2)
        else:
            targets = weight.new_zeros(len(given), self.num_classes, given.shape[2])
            if self.corrected:
                targets.scatter_(1, self.predicted[:, None, part], 1 - weight)
        targets.scatter_add_(1, given, weight)
        noise, noisy = self.noise[:, : given.shape[2]], False
        for method, draws in zip(self.methods, noise, strict=True):
            if method.sln.sigma:
                torch.randn(draws.shape, generator=method.streams("SLN", method.steps + step), out=draws)
                noisy = True
        return targets.addcmul_(self.sigma, noise.transpose(1, 2)) if noisy else targets

    def _loss(self, logits: Tensor, targets: Tensor, part: slice) -> Tensor:
        """The sum of the runs' losses, a scalar. A run's weights occur in its own loss only."""
        losses = (
            torch.cat([losses(logits[block]) for losses, block in self.losses])
            if len(self.losses) > 1
            else (self.losses[0][0](logits))
        )
        weighed = targets * losses
        if self.counts is not None:
            weighed = weighed * self.counts[:, None, part]
        return weighed.sum() / targets.shape[2]

    @torch.no_grad()
    def _step(self, gradients: Sequence[Tensor]) -> None:
        """A step of SGD as `torch.optim.SGD` does it, and of the momentum models."""
        if self.norms is not None:
            norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)
            scale = (self.norms / (norms + 1e-6)).clamp(max=1)  # as torch.nn.utils.clip_grad_norm_
            gradients = [gradient * _like(scale, gradient) for gradient in gradients]
        for parameter, gradient, velocity in zip(self.stack.parameters, gradients, self.velocity, strict=True):
            rate, decay, momentum = (_like(each, parameter) for each in (self.rate, self.decay, self.momentum))
            gradient = gradient.addcmul(parameter, decay)
            velocity.mul_(momentum).add_(gradient)
            parameter.addcmul_(gradient.addcmul_(velocity, momentum) if self.nesterov else velocity, rate, value=-1)
        if self.average is not None:
            for name, average in self.average.state.items():
                if average.is_floating_point():
                    average.lerp_(self.stack.state[name], _like(self.follow, average))

    def _write_back(self, loss: Tensor, prediction: Tensor, margin: Tensor) -> None:
        self.stack.copy_to([method.network for method in self.methods])
        if self.average is not None:
            self.average.copy_to([learner.average.module for learner in self.learners if learner.average is not None])
        for number, learner in enumerate(self.learners):
            method = learner.method
            method.table.note(self.order[number], loss[number], prediction[number], margin[number])
            method.steps += len(self.sizes)
            method.steps_of_epoch = len(self.sizes)
            if learner.options["momentum"]:
                for parameter, velocity in zip(learner.options["params"], self.velocity, strict=True):
                    learner.optimizer.state[parameter]["momentum_buffer"] = velocity[number].clone()

    def _each(self, values: Any) -> Tensor:
        """One number for each run (K,)."""
        return torch.tensor([*values], dtype=torch.float32, device=self.order.device)

    def _column(self, name: str) -> Tensor:
        """A column of the sample tables (K, M)."""
        return torch.stack([method.table[name] for method in self.methods]).gather(1, self.order)

    def _soft(self) -> Tensor:
        """Soft labels (K, M, C). A run whose label correction has not begun has none yet."""
        columns = []
        for method, rows in zip(self.methods, self.order, strict=True):
            table = method.table
            columns.append(
                table["soft"][rows].float()
                if "soft" in table
                else one_hot(table["predicted"][rows], self.num_classes).float()
            )
        return torch.stack(columns)


def _like(each: Tensor, tensor: Tensor) -> Tensor:
    """One number for each run, (K, 1, …) with the dimensions of a tensor (K, …)."""
    return each.view(-1, *[1] * (tensor.ndim - 1))


def _velocities(learner: Learner) -> list[Tensor]:
    """SGD's momentum of each parameter; before its first step it has none, which is as good as 0."""
    state = learner.optimizer.state
    found = [(parameter, state.get(parameter, {}).get("momentum_buffer")) for parameter in learner.options["params"]]
    return [torch.zeros_like(parameter) if buffer is None else buffer for parameter, buffer in found]


def _losses(methods: Sequence[SingleNetwork]) -> Any:
    """Yield functions from logits (K', C, B) to the losses of every class, each with the block of runs that have it."""
    start = 0
    for _, same in groupby(methods, _objective):
        first, *others = same
        block = slice(start, start := start + 1 + len(others))
        yield _by_columns(first.class_losses, first.logit_clip, first.table.num_classes), block


def _objective(method: SingleNetwork) -> tuple[Any, ...]:
    """Equal for methods with the same loss of the same arguments, a partial function or any other."""
    losses: Any = method.class_losses
    if isinstance(losses, partial):
        return losses.func, losses.args, losses.keywords, method.logit_clip
    return losses, method.logit_clip


def _by_columns(losses: Callable[[Tensor], Tensor], clip: float, num_classes: int) -> Callable[[Tensor], Tensor]:
    """The losses as a function of logits (K, C, B) instead of (B, C).

    Most losses take both, as the classes are dimension 1 of both. A trial finds out; the others get rows.
    """

    def clipped(logits: Tensor) -> Tensor:
        return losses(logit_clip(logits, clip))

    def by_rows(logits: Tensor) -> Tensor:
        rows = logits.transpose(1, 2)
        return clipped(rows.flatten(0, 1)).view(rows.shape).transpose(1, 2)

    trial = torch.linspace(-3, 3, 6 * num_classes).view(2, num_classes, 3)
    try:
        as_it_is = torch.allclose(clipped(trial), by_rows(trial))
    except (RuntimeError, ValueError, IndexError):
        as_it_is = False
    return clipped if as_it_is else by_rows


@torch.no_grad()
def _evaluate(learners: Sequence[Learner], judged: Mapping[str, Stack]) -> None:
    """Write accuracy, mean cross entropy and top-5 accuracy into each `measured`, see `slnlab.methods.evaluation`."""
    for learner in learners:
        learner.measured = {}
    for split, (inputs, _) in learners[0].splits.items():
        labels = torch.stack([learner.splits[split][1] for learner in learners])
        for name, networks in judged.items():
            sums: dict[str, Tensor] = {}
            for start in range(0, len(inputs), EVALUATED_AT_ONCE):
                part = slice(start, start + EVALUATED_AT_ONCE)
                for key, values in _sums(networks(inputs[part].t()), labels[:, None, part]).items():
                    sums[key] = sums.get(key, 0) + values.double()
            for key, values in sums.items():
                for learner, mean in zip(learners, (values / len(inputs)).float().tolist(), strict=True):
                    learner.measured[f"{split}/{name}/{key}"] = mean


def _sums(logits: Tensor, label: Tensor) -> dict[str, Tensor]:
    """Sums (K,) over the samples of logits (K, C, B) and labels (K, 1, B)."""
    found = {
        "accuracy": (logits.max(1).indices == label[:, 0]).sum(1),
        "loss": -log_softmax(logits, 1).gather(1, label).double().sum((1, 2)),
    }
    if logits.shape[1] >= TOP5_CLASSES:
        found["top5_accuracy"] = (logits.topk(5, dim=1).indices == label).any(1).sum(1)
    return found
