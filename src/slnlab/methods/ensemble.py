"""The ensemble of networks that are trained together."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

TWO_NETWORKS = ("network", "network_2")
"""`network_names` of two-network methods."""

TWO_ROWS = {
    "mean": "{}",
    "ensemble": "{} (ensemble)",
    "network": "{} 1 (network)",
    "network_2": "{} 2 (network)",
    "momentum": "{}-MO 1 (network)",
    "momentum_2": "{}-MO 2 (network)",
}
"""`rows` of two-network methods that are reported as the mean of both networks."""


class Ensemble(nn.Module):
    """The mean of several networks' logits: (B, channels, H, W) → (B, C).

    Its argmax is that of the summed logits, as DivideMix predicts. Its softmax is the normalised geometric mean of the
    networks' softmaxes. The networks are trained and saved elsewhere.
    """

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(networks)

    def forward(self, images: Tensor) -> Tensor:
        # Copies, as the next network's CUDA graph may overwrite these logits (trainer.compile).
        return self.of(member(images).clone() for member in self.members)

    def of(self, logits: Iterable[Tensor]) -> Tensor:
        """The ensemble's logits (B, C) from those of its members (B, C) each, in their order."""
        first, *others = logits
        return sum(others, first) / len(self.members)
