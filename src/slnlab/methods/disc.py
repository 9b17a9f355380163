"""DISC (Li, Han, Shan & Chen, 2023): each sample has a threshold, which its own earlier confidence sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from slnlab import objectives
from slnlab.data.batches import Batch
from slnlab.losses import cross_entropy, expected_loss
from slnlab.methods.single_network import Lesson
from slnlab.methods.two_views import TwoViews
from slnlab.schema.kinds import FirstEpochs, NonNegative, Positive, Rate
from slnlab.streams import beta


class DISC(TwoViews):
    """The mean of `slnlab.objectives.DISC` over the batch, plus for either view the mixup loss of its learned samples.

    One pass predicts a weak and a strong view of each image, with batch statistics over both, as the authors' does.
    After the warm-up two more passes predict mixtures of the learned samples M of the batch (clean, hard and purified
    ones): weak views with weak ones, strong with strong ones, with the larger share max(λ, 1 − λ), λ ~ Beta(α, α).
    Their loss is the mean over M. To keep its size, a pass repeats samples of M with other partners; each sample of M
    weighs the same. `selected` marks M.

    Args:
        network: see `SingleNetwork`.
        warm_up_epochs: number of epochs of cross entropy on both views of all samples.
        decay: decay m of the thresholds, in [0, 1).
        margin: margin σ of purified samples, ≥ 0.
        hard_weight: weight λ_h of hard samples, ≥ 0.
        alpha: α of Beta(α, α), > 0.
        magnitude, cutout: see `TwoViews`.
        options: see `SingleNetwork`; `class_losses` is not used.
    """

    refuses: ClassVar[dict[str, str]] = {
        "mixup.alpha": "DISC mixes its samples itself (method.alpha)",
        "correction.enabled": "DISC corrects labels itself (its purified samples)",
    }
    fixed: ClassVar[dict[str, Any]] = {"loss.name": "cross_entropy"}
    in_three_epochs: ClassVar[dict[str, Any]] = {"warm_up_epochs": 1, "decay": 0.0, "margin": 0.0}

    def __init__(
        self,
        network: nn.Module,
        *,
        warm_up_epochs: FirstEpochs,
        decay: Rate,
        margin: NonNegative,
        hard_weight: NonNegative,
        alpha: Positive,
        **options: Any,
    ) -> None:
        super().__init__(network, **options)
        self.warm_up_epochs, self.decay, self.margin = warm_up_epochs, decay, margin
        self.hard_weight, self.alpha = hard_weight, alpha

    @classmethod
    def batches_kept(cls, options: Mapping[str, Any]) -> int:
        return 4  # both views, plain and mixed

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self.table.add("selected", fill=True, dtype=torch.bool)
        self.disc = objectives.DISC(
            self.table,
            warm_up_epochs=self.warm_up_epochs,
            decay=self.decay,
            margin=self.margin,
            hard_weight=self.hard_weight,
        )

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self.disc.begin(self.current_epoch)
        self.table["selected"].copy_(self.table["disc_set"] > 0)

    @property
    def parts(self) -> int:
        """Number of parts of a lesson in the current epoch: weak and strong views, then mixtures of either."""
        return 2 if self.current_epoch < self.warm_up_epochs else 4

    def targets(self, index: Tensor) -> Tensor:
        return self.disc.targets(index)

    def lesson(self, batch: Batch) -> Lesson:
        lesson = super().lesson(batch)
        images, targets = [lesson.images, self.second_view(batch)], [lesson.targets, lesson.targets]
        if self.parts > 2:
            for name, view in zip(("weak", "strong"), images[:2], strict=True):
                rows, partners = self.pairs(batch, name)
                share = beta(self.alpha, self.seed, f"DISC {name} share", self.steps)
                share = max(share, 1 - share)
                for grown, whole in ((images, batch.shard.gather(view)), (targets, batch.shard.gather(lesson.targets))):
                    grown.append(share * whole[rows] + (1 - share) * whole[partners])
        return Lesson(torch.cat(images), torch.cat(targets), batch.index)

    def pairs(self, batch: Batch, name: str) -> tuple[Tensor, Tensor]:
        """Rows of the global batch that this process mixes, (B,), and their partners (B,); all in M, if it has any."""
        learned = self.disc.learned(batch.shard.gather(batch.index))
        drawn = torch.rand(
            len(learned), generator=self.streams(f"DISC {name} partners", self.steps), device=batch.index.device
        )
        in_order, at_random = (~learned).long().argsort(stable=True), drawn.masked_fill(~learned, 2.0).argsort()
        turn = torch.arange(len(learned), device=batch.index.device)
        count = learned.sum().clamp(min=1)
        # A row that comes again gets another partner.
        return (
            batch.shard.of(in_order[turn % count]),
            batch.shard.of(at_random[(turn + turn.div(count, rounding_mode="floor")) % count]),
        )

    def weights(self, batch: Batch) -> Tensor:
        """Weights (B,) of these rows: equal for all samples of M, with the sum 1 over all processes; 0 without any."""
        learned = self.disc.learned(batch.shard.gather(batch.index))
        count, total = learned.sum().clamp(min=1), len(learned)
        turn = torch.arange(total, device=batch.index.device) % count
        times = total // count + (turn < total % count)
        return batch.shard.of(learned.any() / (count * times))

    def outputs(self, images: Tensor) -> Tensor:
        size = len(images) // self.parts
        return torch.cat([self.network(part) for part in images.split([2 * size, *[size] * (self.parts - 2)])])

    def remember(self, batch: Batch, logits: Tensor) -> None:
        weak, strong, *_ = logits.tensor_split(self.parts)
        self.disc.remember(batch.index, weak, strong)

    def batch_loss(self, batch: Batch, logits: Tensor, targets: Tensor) -> Tensor:
        weak, strong, *mixed = logits.tensor_split(self.parts)
        first, _, *of_mixed = targets.tensor_split(self.parts)
        loss = batch.mean(self.disc(batch.index, weak, strong, first))
        for part, its in zip(mixed, of_mixed, strict=True):
            loss = loss + (self.weights(batch) * expected_loss(its, cross_entropy(part))).sum()
        return loss
