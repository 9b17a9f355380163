"""Label smoothing under label noise (Lukasik et al., 2020)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from slnlab.losses import label_smoothing
from slnlab.methods.single_network import SingleNetwork
from slnlab.schema.kinds import Share


class LabelSmoothing(SingleNetwork):
    """Targets (1 − α)·t + α/C with any class-wise loss; SLN adds its noise, at the full σ, to the smoothed targets.

    Args:
        network: see `SingleNetwork`.
        alpha: share α of the target that is spread over all classes, in [0, 1].
        options: see `SingleNetwork`.
    """

    def __init__(self, network: nn.Module, *, alpha: Share, **options: Any) -> None:
        super().__init__(network, **options)
        self.alpha = alpha

    def targets(self, index: Tensor) -> Tensor:
        return label_smoothing(super().targets(index), self.alpha)
