"""The wide residual network (Zagoruyko & Komodakis, 2016) in the variant of the SLN paper's CIFAR tables.

Four details differ from the usual WRN and change its numbers: every convolution has a bias, the shortcut convolution
sees the raw input of its block, the second 3×3 convolution of a block has the stride, and the last batch norm has
momentum 0.9.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from slnlab.errors import ConfigError
from slnlab.models.parts import Parts
from slnlab.schema.kinds import Count


class _Block(nn.Module):
    """Pre-activation block: x ↦ shortcut(x) + conv2(relu(bn2(conv1(relu(bn1(x))))))."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=True)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=True)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        # In place is safe: each ReLU overwrites the output of a batch norm, never x.
        residual = self.conv1(self.relu(self.bn1(x)))
        residual = self.conv2(self.relu(self.bn2(residual)))
        out: Tensor = self.shortcut(x) + residual
        return out


class WideResNet(nn.Module):
    """WRN-``depth``-``widen_factor``; the default is the WRN-28-2 of the SLN paper's CIFAR tables.

    The layers are a 3×3 convolution to 16 channels; three stages of n = (depth − 4)/6 pre-activation blocks with 16k,
    32k, 64k channels (k = widen_factor; stages two and three halve the image); batch norm, ReLU, the mean over the
    image, and a linear layer. The *second* 3×3 convolution of a block has the stride. If a block changes the shape,
    its shortcut is a plain 1×1 convolution of the raw input, without batch norm. Every convolution has a bias. Batch
    norms have momentum 0.1, the last one 0.9. Initialisation is PyTorch's default; there is no dropout. Source:
    appendix B.1, with details from the authors' code.

    Parameters at 28-2 with 3 channels: 1,469,642 for 10 classes, 1,481,252 for 100.

    Args:
        in_channels: channels of the images, ≥ 1.
        num_classes: number of logits C, ≥ 1.
        depth: number of layers as the field counts them, 6n + 4 with n ≥ 1.
        widen_factor: k ≥ 1.

    Shape:
        float (B, in_channels, H, W) → (B, num_classes); the pool adapts, so 28×28 works as well as 32×32.

    Raises:
        ConfigError: ``depth`` is not 6n + 4, or a count is below 1.
    """

    parts: ClassVar[Parts] = Parts(last_stage=("stages.2", "bn"), classifier=("classifier",))

    def __init__(self, in_channels: int = 3, num_classes: int = 10, depth: Count = 28, widen_factor: Count = 2) -> None:
        super().__init__()
        if depth < 10 or depth % 6 != 4:
            raise ConfigError(f"WideResNet: depth = {depth}, but it must be 6n + 4 (10, 16, 22, 28, …)")
        if min(in_channels, num_classes, widen_factor) < 1:
            raise ConfigError(
                f"WideResNet: in_channels = {in_channels}, num_classes = {num_classes}, widen_factor = "
                f"{widen_factor}, but each must be at least 1"
            )
        blocks_per_stage = (depth - 4) // 6
        width = 16
        self.conv = nn.Conv2d(in_channels, width, kernel_size=3, padding=1, bias=True)
        stages: list[nn.Module] = []
        for stage in range(3):
            wider = 16 * widen_factor * 2**stage
            blocks: list[nn.Module] = []
            for position in range(blocks_per_stage):
                blocks.append(_Block(width, wider, stride=2 if stage > 0 and position == 0 else 1))
                width = wider
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        # Momentum 0.9 weighs the newest batch by nine tenths, so in eval mode this layer almost uses the statistics
        # of the last training batch. The paper's tables were made so.
        self.bn = nn.BatchNorm2d(width, momentum=0.9)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of images (B, in_channels, H, W)."""
        features = self.relu(self.bn(self.stages(self.conv(images))))
        logits: Tensor = self.classifier(self.pool(features).flatten(1))
        return logits
