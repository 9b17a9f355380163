"""The base of methods that learn from a weakly and a strongly augmented view of each sample."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from slnlab.data.batches import Batch
from slnlab.data.strong_view import randaugment
from slnlab.methods.single_network import SingleNetwork
from slnlab.schema.kinds import EvenPixels, Magnitude


class TwoViews(SingleNetwork):
    """The weak view is the training augmentation, `batch.image`; the strong one is `second_view`. The weak view of a
    feature vector is the vector, and its strong view lacks some features (`data.dropped_features`).

    Args:
        network: see `SingleNetwork`.
        magnitude: of RandAugment's two operations in the strong view, in [2, 10]; see `slnlab.data.strong_view`.
        cutout: side of the square cut out of the strong view, in pixels.
        options: see `SingleNetwork`.
    """

    learns_from_strong_views: ClassVar[bool] = True

    def __init__(self, network: nn.Module, *, magnitude: Magnitude, cutout: EvenPixels, **options: Any) -> None:
        super().__init__(network, **options)
        self.magnitude, self.cutout = magnitude, cutout

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.view = self.data.strong_view(randaugment(2, self.magnitude), self.cutout)

    def second_view(self, batch: Batch) -> Tensor:
        """The strong view of the batch's samples at this step, network input (B, …)."""
        assert batch.pixels is not None
        return self.view(batch.pixels(), batch.shard, self.streams, self.steps)
