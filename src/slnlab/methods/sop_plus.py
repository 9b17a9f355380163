"""SOP+ (Liu, Zhu, Qu & You, 2022): SOP with consistency of a second view and balanced classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from slnlab.data.augment import Normalise
from slnlab.data.batches import Batch
from slnlab.data.strong_view import autoaugment
from slnlab.errors import ConfigError
from slnlab.losses import cross_entropy
from slnlab.methods.single_network import Lesson
from slnlab.methods.sop import SOP
from slnlab.objectives import batch_prior_penalty, softmax
from slnlab.schema.kinds import EvenPixels, NonNegative

CIFAR10 = Normalise((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))


class SOPPlus(SOP):
    """SOP's loss on the first view plus, with the softmaxes S_1 and S_2 of the two views and P of SOP,

        consistency · mean KL(sg(S_1) ‖ S_2) + balance · KL(uniform ‖ mean P),

    all means over the batch (section 3.3 of the paper, as in the authors' code). The first view has the training
    augmentation, the second that of `slnlab.data.strong_view`. One pass predicts both, so batch norm sees them
    together. The consistency trains the network alone, the balance also u.

    Args:
        network: see `SOP`.
        consistency, balance: weights of the two terms, ≥ 0.
        cutout: side of the square cut out of the second view, in pixels.
        view2_norm: constants that normalise the second view: the data set's ("own"), or CIFAR-10's ("cifar10"), as
            in the authors' code for CIFAR-100.
        options: see `SOP`.
    """

    learns_from_strong_views: ClassVar[bool] = True
    weighs_samples: ClassVar[bool] = False

    def __init__(
        self,
        network: nn.Module,
        *,
        consistency: NonNegative,
        balance: NonNegative,
        cutout: EvenPixels,
        view2_norm: Literal["own", "cifar10"],
        **options: Any,
    ) -> None:
        super().__init__(network, **options)
        self.consistency, self.balance, self.cutout, self.view2_norm = consistency, balance, cutout, view2_norm

    @classmethod
    def batches_kept(cls, options: Mapping[str, Any]) -> int:
        return 2  # two views

    def on_fit_start(self) -> None:
        super().on_fit_start()
        channels = len(self.data.normalise.mean)
        if self.view2_norm == "cifar10" and channels != 3:
            raise ConfigError(f"method.view2_norm: cifar10 has 3 channels, the images have {channels} channel(s); own")
        normalise = CIFAR10 if self.view2_norm == "cifar10" else self.data.normalise
        self.view = self.data.strong_view(autoaugment(), self.cutout, normalise)

    def second_view(self, batch: Batch) -> Tensor:
        """The second view of the batch's samples at this step, network input (B, …)."""
        assert batch.pixels is not None
        return self.view(batch.pixels(), batch.shard, self.streams, self.steps)

    def lesson(self, batch: Batch) -> Lesson:
        lesson = super().lesson(batch)
        return lesson._replace(images=torch.cat([lesson.images, self.second_view(batch)]))

    def batch_loss(self, batch: Batch, logits: Tensor, targets: Tensor) -> Tensor:
        first, second = logits.chunk(2)
        losses, explained = self.sop.with_explained(batch.own, first, targets)
        divergence = (softmax(first).detach() * (cross_entropy(second) - cross_entropy(first).detach())).sum(1)
        loss = batch.mean(losses + self.consistency * divergence)
        return loss + self.balance * batch_prior_penalty(explained, batch.shard.total)
