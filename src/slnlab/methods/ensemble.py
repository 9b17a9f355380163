"""Several networks that are trained together, judged as one."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

TWO_NETWORKS = ("network", "network_2")
"""`network_names` of the methods that train two."""

TWO_ROWS = {
    "mean": "{}",
    "ensemble": "{} (ensemble)",
    "network": "{} 1 (network)",
    "network_2": "{} 2 (network)",
    "momentum": "{}-MO 1 (network)",
    "momentum_2": "{}-MO 2 (network)",
}
"""Their `rows`, where the mean of the two networks is the method's own."""


class Ensemble(nn.Module):
    """The mean of several networks' logits: (B, channels, H, W) → (B, C).

    Its argmax is that of the summed logits, by which DivideMix predicts; its softmax is the normalised geometric mean
    of the networks' softmaxes. It owns nothing: its networks are those that are trained and saved elsewhere.
    """

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(networks)

    def forward(self, images: Tensor) -> Tensor:
        # Copies, as the next network's CUDA graph may overwrite what this one has said (trainer.compile).
        return self.of(member(images).clone() for member in self.members)

    def of(self, logits: Iterable[Tensor]) -> Tensor:
        """What it says where its members say this: (B, C) from each of them, in their order → (B, C)."""
        first, *others = logits
        return sum(others, first) / len(self.members)
