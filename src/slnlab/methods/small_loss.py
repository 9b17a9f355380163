"""Small-loss selection, the common base of co-teaching, SIGUA, JoCoR and co-teaching+.

A network learns wrong labels later than right ones, so early in training their losses are larger. In epoch e the
fraction R(e) of each batch with the largest losses is not trusted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from slnlab.analysis.mixture import fit_loss_mixture
from slnlab.analysis.noise_estimate import estimate_rate_by_anchors
from slnlab.data.batches import Batch
from slnlab.data.probabilities import read_probabilities
from slnlab.errors import ConfigError
from slnlab.losses import expected_loss, logit_clip
from slnlab.methods.base import Method
from slnlab.methods.ensemble import TWO_NETWORKS, TWO_ROWS
from slnlab.models.predicting import predict
from slnlab.processes.distributed import Shard, gather
from slnlab.record.result import NoiseRateUsed
from slnlab.schema.kinds import CountOrZero, FilledIn, NoiseRate
from slnlab.sln import StochasticLabelNoise

SOURCES: dict[str, Literal["loss mixture", "anchor points"]] = {
    "estimated": "loss mixture",
    "anchor_points": "anchor points",
}
"""Value of `method.forget_rate` → the source of the rate in the result."""


def ramp(epoch: int, ramp_epochs: int) -> float:
    """R(e)/ε, in [0, 1]: linspace(0, 1, ramp_epochs) over the first epochs, then 1 (Han et al., 2018, their code).

    Args:
        epoch: e, from 1.
        ramp_epochs: 0: the ramp is skipped. 1: nothing is forgotten in epoch 1.
    """
    if epoch > ramp_epochs:
        return 1.0
    return (epoch - 1) / (ramp_epochs - 1) if ramp_epochs > 1 else 0.0


def keep_count(size: int, forget_rate: float) -> int:
    """int((1 − R)·B): how many of B samples are kept, in [0, B]."""
    return int((1 - forget_rate) * size + 1e-9)  # (1 − 0.9)·10 is 0.9999999999999998


def ranks(losses: Tensor) -> Tensor:
    """Ranks (B,) of the losses in ascending order, from 0; the first of equal losses comes first, NaN last."""
    order = losses.argsort(stable=True)
    return torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))


def global_ranks(losses: Tensor, part: Shard) -> Tensor:
    """Ranks (B,) of this process's losses (B,) among those of the global batch."""
    return part.of(ranks(part.gather(losses.detach())))


def chosen(losses: Tensor, which: Tensor) -> Tensor:
    """The losses (B,) where `which` (bool) holds, else 0, also for infinite losses."""
    return torch.where(which, losses, torch.zeros_like(losses))


class SmallLoss(Method):
    """The base of methods with small-loss selection: the forget rate, and the losses to compare.

    Selection compares the losses against the unperturbed targets, over the global batch. Stochastic label noise enters
    the training loss only.

    The noise rate ε is a number, `estimated` or `anchor_points`. The estimate is the share of the higher component of
    `fit_loss_mixture`, fitted to the losses (mean over the networks, eval mode, images as they are, given labels) at
    the start of every epoch. The estimate of the last epoch of the ramp stays, before much is memorised. With
    `anchor_points` it is made once, from the predictions of the run that estimates T for `forward`, which stopped at
    its best epoch on held-out noisy labels (`estimate_rate_by_anchors`). The record logs ε as `train/noise_rate` and
    R(e) as `train/forget_rate`; the result holds ε.

    Args:
        networks, options: see `Method`.
        class_losses: logits (B, C) → the loss each class would incur (B, C).
        sigma: standard deviation of the stochastic label noise in the training loss; each network draws its own.
        logit_clip: largest norm τ of the logits that the loss sees; 0: off. See `slnlab.losses.logit_clip`.
        forget_rate: forget rate ε in [0, 1), "estimated" from the losses, or "anchor_points".
        ramp_epochs: number of epochs over which the forget rate grows to ε, see `ramp`.
        estimate_from: for "anchor_points", see `GivenTransition`; `slnlab.train` makes a missing file.

    Raises:
        ConfigError: in `setup`: the predictions for anchor points are missing.
        DataError: in `setup`: their file cannot be read.
    """

    selections: ClassVar[int | None] = None
    """Number of columns `selected`, `selected_2`, … of the sample table; None: one for each network."""

    in_three_epochs: ClassVar[dict[str, Any]] = {"forget_rate": "estimated", "ramp_epochs": 2}

    def __init__(
        self,
        *networks: nn.Module,
        class_losses: Any,
        forget_rate: NoiseRate,
        ramp_epochs: CountOrZero,
        estimate_from: FilledIn = None,
        sigma: float = 0.0,
        logit_clip: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(*networks, **options)
        self.logit_clip = logit_clip
        self.class_losses = class_losses
        self.sln = StochasticLabelNoise(sigma)
        self.ramp_epochs = ramp_epochs
        self.configured, self.estimate_from = forget_rate, estimate_from
        self.noise_rate: float | None = None if isinstance(forget_rate, str) else forget_rate  # None: not yet estimated

    @property
    def noise_rate_used(self) -> NoiseRateUsed | None:
        source = SOURCES[self.configured] if isinstance(self.configured, str) else "configured"
        return None if self.noise_rate is None else NoiseRateUsed(value=self.noise_rate, source=source)

    @property
    def forget_rate(self) -> float:
        """R(e) of the current epoch."""
        return ramp(self.current_epoch + 1, self.ramp_epochs) * (self.noise_rate or 0.0)

    def seen_by_loss(self, logits: Tensor) -> Tensor:
        """What the class-wise loss gets of the logits (B, C)."""
        return logit_clip(logits, self.logit_clip)

    def losses(self, logits: Tensor, batch: Batch, network: int = 0) -> tuple[Tensor, Tensor]:
        """Losses per sample (B,): for comparison (detached, unperturbed targets), and for training.

        Args:
            logits: (B, C) of the network.
            batch: the samples.
            network: number of the network, from 0, for its own label noise.
        """
        targets, of_classes = self.table.targets(batch.index), self.class_losses(self.seen_by_loss(logits))
        losses = expected_loss(targets, of_classes)
        if not self.sln.sigma:
            return losses.detach(), losses
        noise = self.normal("SLN" if network == 0 else f"SLN {network + 1}", batch)
        return losses.detach(), expected_loss(self.sln(targets, noise=noise), of_classes)

    def setup(self, stage: str) -> None:
        super().setup(stage)
        for number in range(self.selections or len(self.networks)):
            self.table.add("selected" if number == 0 else f"selected_{number + 1}", dtype=torch.bool)
        if self.configured == "anchor_points":
            if self.estimate_from is None:
                raise ConfigError(
                    "method.forget_rate: anchor_points, but there are no predictions to estimate from; slnlab.train "
                    "makes them, a method outside of it takes them from estimate_from"
                )
            probabilities, given = read_probabilities(self.estimate_from), self.table["given"].cpu()
            self.noise_rate = estimate_rate_by_anchors(probabilities, given).value

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        epoch = self.current_epoch + 1
        last = {0: 1, 1: 2}.get(self.ramp_epochs, self.ramp_epochs)  # without a ramp: the first epoch that forgets
        if self.configured == "estimated" and epoch <= last and ramp(epoch, self.ramp_epochs) > 0:
            self.noise_rate = self._estimate()
        self.log("train/forget_rate", self.forget_rate, logger=False)
        self.log("train/noise_rate", self.noise_rate or 0.0, logger=False)

    @torch.no_grad()
    def _estimate(self) -> float:
        parts: list[Tensor] = []
        for index, image in self.data.passes("clean", "noise rate", self.current_epoch):
            given = self.table["given"][index]
            # The loss of each network at once: the next one's CUDA graph may overwrite its logits (trainer.compile).
            losses = [
                cross_entropy(predict(network, image).float(), given, reduction="none")
                for network in self.networks.values()
            ]
            parts.append(torch.stack(losses).mean(0))
        return fit_loss_mixture(gather(torch.cat(parts))).noise_rate

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["noise_rate"] = self.noise_rate

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.noise_rate = checkpoint["noise_rate"]


class SmallLossPair(SmallLoss):
    """The base of methods in which two networks see the same batches. A batch without kept samples takes no step.

    Args:
        networks: two, each with its own initialisation.
        options: see `SmallLoss`.
    """

    rows = TWO_ROWS
    network_names = TWO_NETWORKS

    def step(self, batch: Batch) -> None:
        if keep_count(batch.shard.total, self.forget_rate):
            super().step(batch)

    def outputs(self, batch: Batch) -> list[Tensor]:
        """The logits (B, C) of both networks. Those of the first are observed."""
        logits = [network(batch.image) for network in self.networks.values()]
        self.observe(batch.index, logits[0])
        return logits

    def losses_of_both(self, outputs: Iterable[Tensor], batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
        """The losses (B,) of both networks for comparison, and those for training; see `losses`."""
        found = [self.losses(each, batch, number) for number, each in enumerate(outputs)]
        return [compared for compared, _ in found], [losses for _, losses in found]
