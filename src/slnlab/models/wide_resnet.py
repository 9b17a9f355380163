"""The wide residual network (Zagoruyko & Komodakis, 2016) in the variant that made the paper's CIFAR tables.

It differs from the usual WRN in details that change the numbers: every convolution has a bias, the shortcut
convolution sees the raw input of its block, the stride sits on the block's second 3×3 convolution and the
last batch norm has momentum 0.9.
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
        # In place is safe: each ReLU overwrites a batch norm's output, never x, which the shortcut needs.
        residual = self.conv1(self.relu(self.bn1(x)))
        residual = self.conv2(self.relu(self.bn2(residual)))
        out: Tensor = self.shortcut(x) + residual
        return out


class WideResNet(nn.Module):
    """WRN-``depth``-``widen_factor``; the default is the WRN-28-2 of the paper's CIFAR tables.

    A 3×3 convolution to 16 channels, three stages of n = (depth − 4)/6 pre-activation blocks with
    16k, 32k, 64k channels (k = widen_factor; stages two and three halve the image), batch norm, ReLU, the
    mean over the image, a linear layer. Within a block the stride is that of the *second* 3×3 convolution;
    where a block changes shape its shortcut is a plain 1×1 convolution of the block's raw input, without
    batch norm. Every convolution has a bias. Batch norms have momentum 0.1, the last one 0.9. Initialisation
    is PyTorch's default; there is no dropout. Source: the setup of appendix B.1 as the authors ran it (their
    code settles what the text leaves open).

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
        # 0.9 weighs the newest batch by nine tenths: the statistics of this layer in eval mode are almost
        # those of the last training batch. Odd, but it is what made the tables.
        self.bn = nn.BatchNorm2d(width, momentum=0.9)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of images (B, in_channels, H, W)."""
        features = self.relu(self.bn(self.stages(self.conv(images))))
        logits: Tensor = self.classifier(self.pool(features).flatten(1))
        return logits
