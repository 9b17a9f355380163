"""The pre-activation ResNet-18 (He et al. 2016, "Identity mappings") of the semi-supervised methods' CIFAR results."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor, nn

from slnlab.errors import ConfigError
from slnlab.models.parts import Parts

Form = Literal["dividemix", "kuangliu"]


class _Block(nn.Module):
    """x ↦ shortcut + conv2(relu(bn2(conv1(a)))), with a = relu(bn1(x)).

    If the shape changes, the shortcut is a 1×1 convolution of a; otherwise it is x, or a with `activated_shortcut`.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, activated_shortcut: bool) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        changes = stride != 1 or in_channels != out_channels
        if changes:
            self.shortcut = nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False)
        self.activated_shortcut = activated_shortcut or changes

    def forward(self, x: Tensor) -> Tensor:
        # In place is safe: each ReLU overwrites the output of a batch norm, never x.
        activated = self.relu(self.bn1(x))
        residual = self.conv2(self.relu(self.bn2(self.conv1(activated))))
        out: Tensor = self.shortcut(activated if self.activated_shortcut else x) + residual
        return out


class PreActResNet18(nn.Module):
    """PreActResNet-18 for small images, in the two published forms of this name.

    The layers are a 3×3 convolution to 64 channels without pooling; four stages of two basic blocks with 64, 128, 256,
    512 channels; the mean over the image; and a linear layer. Stages two to four halve the image in their first 3×3
    convolution. If a block changes the shape, its shortcut is a 1×1 convolution of the pre-activated input. No
    convolution has a bias. Unlike in He et al., no batch norm and ReLU precede the mean. Initialisation is PyTorch's
    default.

    - `dividemix`: the public code of DivideMix, ELR+, SOP+ and PES-semi. Batch norm and ReLU follow the first
      convolution, and every shortcut starts from the pre-activated input. 11,171,274 parameters for 10 classes and 3
      channels.
    - `kuangliu`: the collection of CIFAR networks by that author, the model of most others. Nothing follows the first
      convolution, and an identity shortcut starts from the raw input. 11,171,146 parameters.

    Args:
        in_channels: channels of the images, ≥ 1.
        num_classes: number of logits C, ≥ 1.
        form: "dividemix" or "kuangliu".

    Shape:
        float (B, in_channels, H, W) → (B, num_classes), meant for H and W ≈ 32. At 8×8 and below the last stage has a
        single pixel, so training needs B ≥ 2.

    Raises:
        ConfigError: an unknown form, or a count below 1.
    """

    parts: ClassVar[Parts] = Parts(last_stage=("stages.3",), classifier=("classifier",))

    def __init__(self, in_channels: int, num_classes: int, form: Form = "dividemix") -> None:
        super().__init__()
        if form not in ("dividemix", "kuangliu"):
            raise ConfigError(f"PreActResNet18: form = {form!r}, but it must be 'dividemix' or 'kuangliu'")
        if min(in_channels, num_classes) < 1:
            raise ConfigError(
                f"PreActResNet18: in_channels = {in_channels}, num_classes = {num_classes}, but each must be at least 1"
            )
        width = 64
        stem: list[nn.Module] = [nn.Conv2d(in_channels, width, kernel_size=3, padding=1, bias=False)]
        if form == "dividemix":
            stem += [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        self.stem = nn.Sequential(*stem)
        stages: list[nn.Module] = []
        for stage in range(4):
            wider = 64 * 2**stage
            blocks = [
                _Block(width, wider, stride=1 if stage == 0 else 2, activated_shortcut=form == "dividemix"),
                _Block(wider, wider, stride=1, activated_shortcut=form == "dividemix"),
            ]
            stages.append(nn.Sequential(*blocks))
            width = wider
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of images (B, in_channels, H, W)."""
        logits: Tensor = self.classifier(self.pool(self.stages(self.stem(images))).flatten(1))
        return logits
