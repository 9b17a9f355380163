"""The CIFAR-10 network of the robust losses (Wang et al. 2019, Ma et al. 2020, and later)."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from slnlab.errors import ConfigError
from slnlab.models.parts import Parts

WIDTHS = (64, 64, 128, 128, 196, 196)


class CNN8(nn.Module):
    """Eight layers: six 3×3 convolutions, a hidden layer of 256 units, and a linear classifier.

    Batch norm and ReLU follow each of the first seven layers. A 2×2 max-pool follows every second convolution. All
    layers have biases. As in the public code of Ma et al., weights of convolutions begin Kaiming-uniform and those of
    linear layers Xavier-uniform. 1,639,794 parameters for 32×32 pixels, 3 channels and 10 classes.

    Args:
        in_channels: channels of the images, ≥ 1.
        num_classes: number of logits C, ≥ 1.
        image_size: height and width of the images in pixels, ≥ 8.

    Shape:
        float (B, in_channels, image_size, image_size) → (B, num_classes). Training needs B ≥ 2.

    Raises:
        ConfigError: a number is too small.
    """

    parts: ClassVar[Parts] = Parts(last_stage=("hidden",), classifier=("classifier",))

    def __init__(self, in_channels: int, num_classes: int, image_size: int) -> None:
        super().__init__()
        if min(in_channels, num_classes) < 1 or image_size < 8:
            raise ConfigError(
                f"CNN8: in_channels = {in_channels}, num_classes = {num_classes}, image_size = {image_size}, but the "
                "first two must be at least 1 and the size at least 8"
            )
        layers: list[nn.Module] = []
        for position, (before, after) in enumerate(pairwise((in_channels, *WIDTHS)), start=1):
            layers += [nn.Conv2d(before, after, kernel_size=3, padding=1), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
            if position % 2 == 0:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.hidden = nn.Sequential(
            nn.Linear(WIDTHS[-1] * (image_size // 8) ** 2, 256), nn.BatchNorm1d(256), nn.ReLU(inplace=True)
        )
        self.classifier = nn.Linear(256, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of images (B, in_channels, image_size, image_size)."""
        logits: Tensor = self.classifier(self.hidden(self.features(images).flatten(1)))
        return logits
