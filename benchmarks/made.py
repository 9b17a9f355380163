"""Data and networks of the benchmarks: random images of CIFAR's size, three convolutions, and a network at no cost.

Speed does not depend on the content of images, so nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from slnlab.data.source import LabelledImages, Split

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


class MadeImages:
    """Random images (N, 3, 32, 32) uint8 with random labels."""

    name = "made"

    def __init__(self, train: int, test: int, classes: int = 10) -> None:
        self.sizes = {"train": train, "test": test}
        self.classes = classes

    def prepare(self) -> None:
        """Nothing to do."""

    def load(self, split: Split) -> LabelledImages:
        size = self.sizes[split]
        generator = torch.Generator().manual_seed(size)
        images = torch.randint(256, (size, 3, 32, 32), dtype=torch.uint8, generator=generator)
        return LabelledImages(images, torch.randint(self.classes, (size,), generator=generator))


class ThreeConvolutions(nn.Module):
    """3×3 convolutions with batch norm and ReLU, a 2×2 max-pool after each of the first two, mean, linear layer."""

    def __init__(self, widths: Sequence[int], num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = in_channels
        for position, width in enumerate(widths):
            layers += [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            if position < 2:
                layers.append(nn.MaxPool2d(2))
            before = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(before, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(images).mean((2, 3)))
        return logits


class CostsNothing(nn.Module):
    """A linear layer on one pixel of each image."""

    def __init__(self, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.classifier = nn.Linear(in_channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(images[:, :, 0, 0])
        return logits
