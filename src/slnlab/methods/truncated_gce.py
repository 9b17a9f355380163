"""Truncated generalised cross entropy (Zhang & Sabuncu, 2018): GCE with regular pruning of samples."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from slnlab.data.batches import Batch
from slnlab.data.datamodule import View
from slnlab.losses import expected_loss
from slnlab.methods.single_network import SingleNetwork
from slnlab.models.predicting import predict
from slnlab.processes.distributed import gathered
from slnlab.schema.kinds import Count, FirstEpoch, Quantile


class TruncatedGCE(SingleNetwork):
    """Mean over the whole batch of w_i·(ℓ_i − L(k)), ℓ GCE, L(k) = (1 − k^q)/q its value at probability k.

    Equation 11 of the paper by alternating: w_i = 1 until the first pruning; a pruning sets w_i = 1 iff the
    network, in eval mode, gives the unperturbed target a probability p_i > k. `selected` is w.

    The authors published no code. Public code by others differs in two choices: it prunes with the best network on the
    test set (here: with the current one), and it predicts augmented images (see `views`).

    Args:
        network: see `SingleNetwork`.
        truncation: probability k in (0, 1) below which samples are pruned.
        first_pruning: the first pruning is at the start of this epoch, counted from 1; None: no pruning.
        pruning_every: number of epochs between prunings.
        views: images that a pruning predicts. "clean": without augmentation, so no random draw decides; or "augmented".
        options: see `SingleNetwork`; `class_losses` is GCE.
    """

    refuses: ClassVar[dict[str, str]] = {
        "mixup.alpha": "truncation gives each sample a weight, and a mixture has two samples; use method=gce",
    }
    fixed: ClassVar[dict[str, Any]] = {"loss.name": "gce"}
    in_three_epochs: ClassVar[dict[str, Any]] = {"first_pruning": 2, "pruning_every": 1, "truncation": 0.11}

    def __init__(
        self,
        network: nn.Module,
        *,
        truncation: Quantile,
        first_pruning: FirstEpoch | None,
        pruning_every: Count,
        views: View = "clean",
        **options: Any,
    ) -> None:
        super().__init__(network, **options)
        self.views = views
        self.truncation, self.first_pruning, self.pruning_every = truncation, first_pruning, pruning_every
        two_classes = torch.tensor([[math.log(truncation), math.log(1 - truncation)]], dtype=torch.float64)
        self.at_truncation = float(self.class_losses(two_classes)[0, 0])

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self.table.add("selected", fill=True, dtype=torch.bool)

    def objective(self, batch: Batch, logits: Tensor, targets: Tensor) -> Tensor:
        losses = expected_loss(targets, self.class_losses(logits)) - self.at_truncation
        return losses * self.table["selected"][batch.index]

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        if self.first_pruning is None:
            return
        since = self.current_epoch + 1 - self.first_pruning
        if since >= 0 and since % self.pruning_every == 0:
            self.prune()

    @torch.no_grad()
    def prune(self) -> None:
        """Select the samples whose target has a probability above the truncation."""
        predicted: list[tuple[Tensor, Tensor]] = []
        for index, image in self.data.passes(self.views, "pruning", self.current_epoch):
            likelihood = (self.targets(index) * predict(self.network, image).float().softmax(1)).sum(1)
            predicted.append((index, likelihood > self.truncation))
        index, likely = gathered(predicted)
        self.table["selected"][index] = likely
