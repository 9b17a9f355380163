"""Shifted Gaussian noise (SGN; Englesson & Azizpour, 2024): the network predicts how far each label can be trusted."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from slnlab.data.batches import Batch
from slnlab.losses import expected_loss
from slnlab.methods.sam import running_statistics_kept
from slnlab.methods.single_network import SingleNetwork
from slnlab.models.features import head_on, logits_and_features
from slnlab.models.modes import training
from slnlab.objectives import shifted_gaussian
from slnlab.schema.kinds import Quantile, Rate
from slnlab.streams import derive


class SGN(SingleNetwork):
    """The label is a Gaussian around the prediction, in log-ratios, with a mean and a covariance that are learned.

    The loss of a label is `slnlab.objectives.shifted_gaussian`; soft targets and SLN's noise weigh those of all
    classes. A second linear head beside the classifier gives the direction r of a likely error. The momentum model
    predicts the same images in train mode. Its running statistics are averaged like its weights; the authors' are those
    of its own passes, which only its evaluation sees. The shift f = 1 − α^e, with the epochs e done so far (a fraction
    within an epoch), moves the target from the label to that prediction.

    Args:
        network: see `SingleNetwork`.
        trust: α in [0, 1): the part of the label that is left in the target after one epoch.
        smoothing: ℓ in (0, 1) of the label smoothing, which makes log-ratios of labels finite.
        options: see `SingleNetwork`; `class_losses` is not used.
    """

    refuses: ClassVar[dict[str, str]] = {
        "logit_clip.tau": "SGN's logits are log-ratios and must reach those of the smoothed label, of any norm",
        "trainer.compile": "SGN's second head reads the features inside the network, which a compiled network hides",
    }
    needs: ClassVar[dict[str, str]] = {
        "momentum.enabled": "the momentum model's predictions are a part of SGN's targets"
    }
    fixed: ClassVar[dict[str, Any]] = {"loss.name": "cross_entropy"}
    in_three_epochs: ClassVar[dict[str, Any]] = {"trust": 0.5}

    def __init__(self, network: nn.Module, *, trust: Rate, smoothing: Quantile, **options: Any) -> None:
        super().__init__(network, **options)
        self.trust, self.smoothing = trust, smoothing
        self.heads["direction"] = head_on(network, derive(self.seed, "SGN direction"))

    def shift(self) -> float:
        """f of the current step, in [0, 1)."""
        return 1 - self.trust ** (self.current_epoch + self.steps_of_epoch / self.data.steps_per_epoch)

    def outputs(self, images: Tensor) -> Tensor:
        """The logits, the directions and the momentum model's logits, (B, 3C)."""
        logits, features = logits_and_features(self.network, images)
        return torch.cat([logits, self.heads["direction"](features), self._averages(images)], 1)

    @torch.no_grad()
    def _averages(self, images: Tensor) -> Tensor:
        average = self.judged["momentum"]
        with training(average), running_statistics_kept(average):
            logits: Tensor = average(images)
        return logits

    def objective(self, batch: Batch, logits: Tensor, targets: Tensor) -> Tensor:
        mean, direction, average = logits.chunk(3, 1)
        return expected_loss(targets, shifted_gaussian(mean, direction, average, self.shift(), self.smoothing))
