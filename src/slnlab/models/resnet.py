"""Residual networks (He et al. 2016) of torchvision.

ResNet-50, from scratch or pretrained on ImageNet, is the network of the Clothing1M tables. CORES², PES and SOP were
published with ResNet-18 and ResNet-34 for small images on CIFAR.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from torch import Tensor, nn
from torchvision.models import ResNet50_Weights
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from slnlab.errors import ConfigError
from slnlab.models.weight_files import cached, fill, published

_WEIGHTS = ResNet50_Weights.IMAGENET1K_V1
"""The field's Clothing1M results use these weights. torchvision's later V2 weights are better."""


class ResNet50(ResNet):
    """torchvision's ResNet-50 with a new linear layer for `num_classes`.

    The constructor reads and downloads nothing. `prepare` fetches the ImageNet weights, and `start` loads them all but
    those of the last layer. The last layer has PyTorch's default initialisation. A resumed run calls neither.

    Args:
        in_channels: channels of the images; 3 if pretrained.
        num_classes: number of logits C, ≥ 1.
        pretrained: `start` loads torchvision's `ResNet50_Weights.IMAGENET1K_V1`.

    Shape:
        float (B, in_channels, H, W) → (B, num_classes), meant for H and W ≥ 32.

    Raises:
        ConfigError: pretrained, but in_channels is not 3.
    """

    def __init__(self, in_channels: int, num_classes: int, pretrained: bool = False) -> None:
        if pretrained and in_channels != 3:
            raise ConfigError(f"model.pretrained: ImageNet's images have 3 channels, these {in_channels}")
        super().__init__(Bottleneck, [3, 4, 6, 3], num_classes=num_classes)
        if in_channels != 3:
            self.conv1 = _first_convolution(in_channels, kernel_size=7, stride=2)
        self.pretrained = pretrained

    @staticmethod
    def published_weights() -> tuple[Path, str]:
        """The file of the ImageNet weights in torch's cache, which may be missing, and their address."""
        return cached(_WEIGHTS), _WEIGHTS.url

    def prepare(self) -> None:
        """Fetch the weights into torch's cache, if `pretrained` and not yet there.

        Raises:
            DataError: the weights cannot be downloaded, or are damaged. The message names the place of the file.
        """
        if self.pretrained:
            _imagenet_weights()

    def start(self) -> None:
        """Load the ImageNet weights of all layers but the last, if `pretrained`.

        Raises:
            DataError: see `prepare`.
        """
        if self.pretrained:
            fill(self, _imagenet_weights(), ["fc."], "model.pretrained")


class _ForSmallImages(ResNet):
    """torchvision's residual network of basic blocks, with a stem that does not shrink the image."""

    blocks: ClassVar[list[int]]
    """Number of blocks in each of the four stages."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        if min(in_channels, num_classes) < 1:
            raise ConfigError(
                f"{type(self).__name__}: in_channels = {in_channels}, num_classes = {num_classes}, "
                "but each must be at least 1"
            )
        super().__init__(BasicBlock, self.blocks, num_classes=num_classes)
        self.conv1 = _first_convolution(in_channels, kernel_size=3, stride=1)
        self.maxpool = nn.Identity()


class ResNet18(_ForSmallImages):
    """torchvision's ResNet-18 with the stem of the CIFAR code: a 3×3 convolution of stride 1, and no max pooling.

    Four stages have two basic blocks each, with 64, 128, 256, 512 channels; stages two to four halve the image.
    Initialisation is torchvision's (convolutions normal, by fan-out); the usual CIFAR code keeps PyTorch's default.
    Parameters with 3 channels: 11,173,962 for 10 classes.

    Args:
        in_channels: channels of the images, ≥ 1.
        num_classes: number of logits C, ≥ 1.

    Shape:
        float (B, in_channels, H, W) → (B, num_classes), meant for H and W ≈ 32. At 8×8 and below the last stage has a
        single pixel, so training needs B ≥ 2.

    Raises:
        ConfigError: a count is below 1.
    """

    blocks: ClassVar[list[int]] = [2, 2, 2, 2]


class ResNet34(_ForSmallImages):
    """`ResNet18` with 3, 4, 6 and 3 blocks. Parameters with 3 channels: 21,282,122 for 10 classes.

    The public code of the robust losses (`data=cifar100_apl`) starts it otherwise: convolutions uniform by fan-in
    (`kaiming_uniform_`), the linear layer by `xavier_uniform_`.
    """

    blocks: ClassVar[list[int]] = [3, 4, 6, 3]


def _first_convolution(in_channels: int, kernel_size: int, stride: int) -> nn.Conv2d:
    """Return a convolution to 64 channels with torchvision's initialisation."""
    convolution = nn.Conv2d(in_channels, 64, kernel_size, stride, padding=kernel_size // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution


def _imagenet_weights() -> dict[str, Tensor]:
    return published(_WEIGHTS, "model.pretrained", "start from scratch with model.pretrained=false")
