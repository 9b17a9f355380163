"""A cheap network that memorises wrong labels: what a study of label noise on a CPU needs."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from slnlab.errors import ConfigError
from slnlab.models.parts import Parts
from slnlab.schema.kinds import Counts


class StridedCNN(nn.Module):
    """3×3 convolutions of stride 2 with batch norm and ReLU, a hidden layer, and a linear classifier.

    The strides make it cheap; the hidden layer has most of its weights (0.8 million for 28×28 pixels, 1.1 million for
    32×32), with which it fits labels at random. The convolutions have no bias, because the following batch norm would
    subtract it.

    Args:
        in_channels: channels of the images, ≥ 1.
        num_classes: number of logits C, ≥ 1.
        image_size: height and width of the images in pixels, ≥ 1.
        widths: channels after each convolution, each ≥ 1; at least one.
        hidden: units of the hidden layer, ≥ 1.

    Shape:
        float (B, in_channels, image_size, image_size) → (B, num_classes).

    Raises:
        ConfigError: ``widths`` is empty, or a number is below 1.
    """

    parts: ClassVar[Parts] = Parts(last_stage=("hidden",), classifier=("classifier",))

    def __init__(
        self, in_channels: int, num_classes: int, image_size: int, widths: Counts = (32, 64), hidden: int = 256
    ) -> None:
        super().__init__()
        channels = [in_channels, *widths]
        if len(channels) < 2 or min(*channels, num_classes, image_size, hidden) < 1:
            raise ConfigError(
                f"StridedCNN: in_channels = {in_channels}, num_classes = {num_classes}, image_size = {image_size}, "
                f"widths = {channels[1:]}, hidden = {hidden}, but each must be at least 1, with at least one width"
            )
        layers: list[nn.Module] = []
        for before, after in pairwise(channels):
            layers += [
                nn.Conv2d(before, after, kernel_size=3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
            ]
            image_size = -(-image_size // 2)
        self.features = nn.Sequential(*layers)
        self.hidden = nn.Sequential(nn.Linear(channels[-1] * image_size**2, hidden), nn.ReLU(inplace=True))
        self.classifier = nn.Linear(hidden, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of images (B, in_channels, image_size, image_size)."""
        logits: Tensor = self.classifier(self.hidden(self.features(images).flatten(1)))
        return logits
