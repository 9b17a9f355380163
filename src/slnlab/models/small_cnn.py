"""A small network for small images: digits (1×8×8), Fashion-MNIST (1×28×28), a CIFAR study on a CPU."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from slnlab.errors import ConfigError
from slnlab.models.parts import Parts
from slnlab.schema.kinds import FourCounts


class SmallCNN(nn.Module):
    """Five layers: four 3×3 convolutions, each with batch norm and ReLU, and one linear layer.

    A 2×2 max-pool follows the second and the third convolution. The mean over the image feeds the linear layer, so any
    height and width of at least 4 pixels works (8×8 ends as 2×2, 28×28 as 7×7). The convolutions have no bias, because
    the following batch norm would subtract it.

    Args:
        in_channels: channels of the images, ≥ 1.
        num_classes: number of logits C, ≥ 1.
        widths: channels after each of the four convolutions, each ≥ 1.

    Shape:
        float (B, in_channels, H, W), H and W ≥ 4 → (B, num_classes).

    Raises:
        ConfigError: ``widths`` does not have four entries, or a count is below 1.
    """

    parts: ClassVar[Parts] = Parts(last_stage=("features.11", "features.12"), classifier=("classifier",))

    def __init__(self, in_channels: int, num_classes: int, widths: FourCounts = (32, 32, 64, 64)) -> None:
        super().__init__()
        # Hydra passes its own list type, and the module must not keep it.
        channels = [in_channels, *widths]
        if len(channels) != 5:
            raise ConfigError(f"SmallCNN: widths = {channels[1:]}, but it must be the widths of 4 convolutions")
        if min(*channels, num_classes) < 1:
            raise ConfigError(
                f"SmallCNN: in_channels = {in_channels}, num_classes = {num_classes}, "
                f"widths = {channels[1:]}, but each must be at least 1"
            )
        layers: list[nn.Module] = []
        for position, (before, after) in enumerate(pairwise(channels), start=1):
            layers += [
                nn.Conv2d(before, after, kernel_size=3, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
            ]
            # The average pool follows the fourth convolution. Pooling before it makes it four times cheaper.
            if position in (2, 3):
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of images (B, in_channels, H, W)."""
        logits: Tensor = self.classifier(self.pool(self.features(images)).flatten(1))
        return logits
