"""ELR+ (Liu et al., 2020): early-learning regularisation with mixup and the other network's weight average."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, log_softmax, nn
from torch.nn.functional import one_hot

from slnlab.data.batches import Batch
from slnlab.methods.base import Method
from slnlab.methods.ensemble import TWO_NETWORKS, TWO_ROWS
from slnlab.methods.mixup import mixup_partners
from slnlab.objectives import early_learning
from slnlab.schema.kinds import NonNegative, Positive, Rate, Steps


def exponential_ramp(step: int, length: int) -> float:
    """exp(−5(1 − min(t, L)/L)²): from e⁻⁵ at t = 0 to 1 from t = L on."""
    return math.exp(-5 * (1 - min(step, length) / length) ** 2)


def weighted_by(labels: Tensor, targets: Tensor) -> Tensor:
    """y ⊙ q divided by its sum, for rows (B, C) of both → (B, C); y itself where the sum is 0."""
    products = labels * targets
    totals = products.sum(1, keepdim=True)
    return torch.where(totals > 0, products / totals.clamp(min=1e-12), labels)


class Turn(NamedTuple):
    """One step of one network."""

    number: int
    """Number of the network to train: 0 or 1."""
    step: int
    """Number of its step, from 1."""
    batch: Batch


class ELRPlus(Method):
    """Each epoch trains network 1 completely, then network 2, each in its own order of samples.

    A step of network k mixes images and one-hot given labels with λ ~ Beta(α, α); the sample itself has the larger
    share. The *other* network's weight average predicts the unmixed images without gradient, in train mode (with batch
    statistics). It moves the running targets Q_k ← β·Q_k + (1 − β)·softmax, from zeros; mixed likewise they are q. Then

        loss = mean −Σ y' log S + r(n) · strength · mean log(1 − ⟨q, S⟩), S in the second term clipped,

    and after the optimiser's step the weight average θ̄_k ← a·θ̄_k + (1 − a)·θ_k, with
    a = average_decay · exponential_ramp(n + 1, ramp_steps); n counts the network's own steps from 1. (Liu et al., 2020,
    section 4.3 and appendix; details as in their code.) The result of ELR+ is the ensemble of the two networks, not of
    their averages. The columns `elr` and `elr_2` are Q_1 and Q_2 (N, C), float32.

    Args:
        networks: two, each with its own initialisation.
        strength: weight λ of the regulariser, ≥ 0.
        decay: decay β of the running targets, in [0, 1).
        alpha: α of mixup's Beta(α, α), > 0.
        average_decay: final decay a of the weight average, in [0, 1).
        ramp_steps: number of steps L of both ramps, that of the average and that of the regulariser.
        ramp_regulariser: True: r(n) = exponential_ramp(n, L); False: r = 1.
        weight_labels_by_target: True: y' ← y' ⊙ q, renormalised, before the cross entropy.
        options: see `Method`.
    """

    rows: ClassVar[dict[str, str]] = {**TWO_ROWS, "ensemble": "{}", "mean": "{} (mean of its networks)"}
    trusts_itself: ClassVar[bool] = True
    refuses: ClassVar[dict[str, str]] = {
        "mixup.alpha": "ELR+ mixes its samples itself (method.alpha)",
        "sam.rho": ("SAM needs a second pass without side effects, and ELR+ moves its running targets in every pass"),
        "sln.sigma": "ELR+ mixes its labels and weights them by its targets; to train SLN first, use init.from=sln",
        "correction.enabled": (
            "label correction predicts with one momentum model, and ELR+ has two networks with their own targets"
        ),
    }
    fixed: ClassVar[dict[str, Any]] = {"loss.name": "cross_entropy"}

    network_names = TWO_NETWORKS
    trains_in_turn = True

    def __init__(
        self,
        *networks: nn.Module,
        strength: NonNegative,
        decay: Rate,
        alpha: Positive,
        average_decay: Rate,
        ramp_steps: Steps,
        ramp_regulariser: bool,
        weight_labels_by_target: bool,
        **options: Any,
    ) -> None:
        super().__init__(*networks, **options)
        # They are saved with the method; no optimiser trains them.
        self.averages = nn.ModuleList(copy.deepcopy(each).requires_grad_(False) for each in networks)
        self.strength, self.decay, self.alpha = strength, decay, alpha
        self.average_decay, self.ramp_steps = average_decay, ramp_steps
        self.ramp_regulariser, self.weight_labels_by_target = ramp_regulariser, weight_labels_by_target

    @classmethod
    def batches_kept(cls, options: Mapping[str, Any]) -> int:
        return 1  # one network after the other

    def setup(self, stage: str) -> None:
        super().setup(stage)
        for name in ("elr", "elr_2"):
            self.table.add(name, shape=(self.table.num_classes,))

    def on_fit_start(self) -> None:
        super().on_fit_start()
        if not self.steps:  # the networks may have got trained weights meanwhile
            for average, network in zip(self.averages, self.networks.values(), strict=True):
                average.load_state_dict(network.state_dict())

    def batches(self, epoch: int) -> Iterable[Callable[[], Any]]:
        def turn(make: Callable[[], Batch], number: int, step: int) -> Turn:
            return Turn(number, step, make())

        passes = [[*self.data.shuffled(self.data.train_index, "ELR+ ", epoch, number)] for number in (0, 1)]
        return [
            partial(turn, make, number, epoch * len(batches) + step)
            for number, batches in enumerate(passes)
            for step, make in enumerate(batches, start=1)
        ]

    def step(self, turn: Turn) -> None:  # type: ignore[override]
        with self.forward_pass():
            loss = self.loss(turn)
        self.descend(loss, turn.number)
        self.move_average(turn)

    def loss(self, turn: Turn) -> Tensor:  # type: ignore[override]
        """This process's share of the loss, after moving Q_k."""
        number, batch = turn.number, turn.batch
        running = self._move_targets(number, batch)
        share, partner, images = mixup_partners(batch, self.alpha, self.streams, self.steps)
        share = max(share, 1 - share)
        logits = self.networks[TWO_NETWORKS[number]](share * batch.image + (1 - share) * images)
        if number == 0:
            self.observe(batch.index, logits)  # the samples have the larger share in these images
        q = share * running[batch.index] + (1 - share) * running[partner]
        given = self.table["given"]
        labels = share * self._one_hot(given[batch.index]) + (1 - share) * self._one_hot(given[partner])
        if self.weight_labels_by_target:
            labels = weighted_by(labels, q)
        log_s = log_softmax(logits.float(), 1)
        ramp = exponential_ramp(turn.step, self.ramp_steps) if self.ramp_regulariser else 1.0
        return batch.mean(-(labels * log_s).sum(1) + ramp * self.strength * early_learning(log_s.exp(), q))

    def _one_hot(self, labels: Tensor) -> Tensor:
        return one_hot(labels, self.table.num_classes).float()

    @torch.no_grad()
    def _move_targets(self, number: int, batch: Batch) -> Tensor:
        """Move Q_k for all samples of the global batch, equally in all processes, and return it (N, C)."""
        running = self.table["elr" if number == 0 else "elr_2"]
        softmax = batch.shard.gather(self.averages[1 - number](batch.image).float().softmax(1))
        rows = batch.shard.gather(batch.index)
        running[rows] = self.decay * running[rows] + (1 - self.decay) * softmax
        return running

    @torch.no_grad()
    def move_average(self, turn: Turn) -> None:
        """θ̄_k ← a·θ̄_k + (1 − a)·θ_k after step n of network k, for parameters only."""
        a = self.average_decay * exponential_ramp(turn.step + 1, self.ramp_steps)
        averages: list[Tensor] = [*self.averages[turn.number].parameters()]
        torch._foreach_lerp_(averages, [*self.networks[TWO_NETWORKS[turn.number]].parameters()], 1 - a)
