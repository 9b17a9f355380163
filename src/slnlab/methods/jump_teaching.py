"""Jump-teaching (Ji, Cheng, Wang & Huang, 2024): one network selects its own samples, one epoch ahead."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from slnlab.data.batches import Batch
from slnlab.losses import expected_loss
from slnlab.methods.single_network import Lesson
from slnlab.methods.two_views import TwoViews
from slnlab.models.features import head_on, logits_and_features
from slnlab.objectives import bit_losses, label_codes
from slnlab.processes.float32 import without_autocast
from slnlab.schema.kinds import FirstEpochs, NonNegative, Positive, PowerOfTwo
from slnlab.streams import beta, derive


class JumpTeaching(TwoViews):
    """ℓ(z/T, y) plus the mean binary cross entropy of M bits tanh(g) against the code word of y (`label_codes`).

    g comes from a second linear head; ℓ is any class-wise loss. In training a sample counts as clean if the network
    predicts its label, or if the variance of its losses over the bits (with M − 1) is below `variance`. The flag found
    in one epoch (column `flagged`) decides in the next (`selected`): the loss is the sum over the selected samples,
    divided by the batch size. The warm-up learns from all samples. After it, the image is the mixture of its weak
    view with the larger share and its strong view, with λ ~ Beta(α, α) for each batch. One pass per step serves all.
    The label of a corrected target is its likeliest class.

    Args:
        network: see `SingleNetwork`.
        bits: length M of a code word, a power of two, at least half the number of classes.
        warm_up_epochs: number of epochs on all samples, without the strong view.
        variance: upper bound of a clean sample's variance.
        temperature: T > 0.
        alpha: α of Beta(α, α), > 0.
        magnitude, cutout: see `TwoViews`.
        options: see `SingleNetwork`.
    """

    refuses: ClassVar[dict[str, str]] = {
        "mixup.alpha": "Jump-teaching keeps or drops a sample, and a mixture has two; it mixes views (method.alpha)",
        "trainer.compile": "the second head reads the features inside the network, which a compiled network hides",
    }
    in_three_epochs: ClassVar[dict[str, Any]] = {"warm_up_epochs": 1, "variance": 0.08}

    def __init__(
        self,
        network: nn.Module,
        *,
        bits: PowerOfTwo,
        warm_up_epochs: FirstEpochs,
        variance: NonNegative,
        temperature: Positive,
        alpha: Positive,
        **options: Any,
    ) -> None:
        super().__init__(network, **options)
        self.bits, self.warm_up_epochs, self.variance = bits, warm_up_epochs, variance
        self.temperature, self.alpha = temperature, alpha
        self.heads["bits"] = head_on(network, derive(self.seed, "Jump-teaching bits"), bits)

    def setup(self, stage: str) -> None:
        super().setup(stage)
        for name in ("selected", "flagged"):
            self.table.add(name, fill=True, dtype=torch.bool)
        self.codes = label_codes(self.table.num_classes, self.bits)

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.codes = self.codes.to(self.device)

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        if self.current_epoch >= self.warm_up_epochs:
            self.table["selected"].copy_(self.table["flagged"])

    def lesson(self, batch: Batch) -> Lesson:
        lesson = super().lesson(batch)
        if self.current_epoch < self.warm_up_epochs:
            return lesson
        share = beta(self.alpha, self.seed, "Jump-teaching views", self.steps)
        share = max(share, 1 - share)
        return lesson._replace(images=share * lesson.images + (1 - share) * self.second_view(batch))

    def outputs(self, images: Tensor) -> Tensor:
        """The logits and the bits, (B, C + M)."""
        logits, features = logits_and_features(self.network, images)
        # In bfloat16 tanh is 1 from 3.2 on, and a wrong bit would never change again.
        bits = torch.tanh(self.heads["bits"](features).float())
        return torch.cat([logits, bits], 1)

    def remember(self, batch: Batch, logits: Tensor) -> None:
        logits, bits = logits[:, : -self.bits], logits[:, -self.bits :]
        targets = self.targets(batch.index)
        varies = self._bit_losses(bits, targets).var(1)
        flagged = (logits.argmax(1) == targets.argmax(1)) | (varies < self.variance)
        self.table.write(batch.index, flagged=flagged)

    def objective(self, batch: Batch, logits: Tensor, targets: Tensor) -> Tensor:
        logits, bits = logits[:, : -self.bits], logits[:, -self.bits :]
        losses = expected_loss(targets, self.class_losses(logits / self.temperature))
        return (losses + self._bit_losses(bits, targets).mean(1)) * self.table["selected"][batch.index]

    def _bit_losses(self, bits: Tensor, targets: Tensor) -> Tensor:
        with without_autocast(bits.device):
            return bit_losses(bits, targets @ self.codes)
