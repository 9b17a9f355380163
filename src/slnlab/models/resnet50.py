"""ResNet-50 (He et al. 2016), from scratch or pretrained on ImageNet: the network of the Clothing1M tables."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torchvision.models import ResNet50_Weights
from torchvision.models.resnet import Bottleneck, ResNet

from slnlab.errors import ConfigError, DataError

_WEIGHTS = ResNet50_Weights.IMAGENET1K_V1
"""The weights of the field's Clothing1M results; torchvision's V2 came later and are better."""


class ResNet50(ResNet):
    """torchvision's ResNet-50, with a linear layer of its own for `num_classes`.

    Building it reads and downloads nothing. `prepare` fetches the ImageNet weights, and `start` takes them up: a run
    does so before anything that takes time, and a run that goes on from a checkpoint never. The last layer is new in
    any case, with PyTorch's default initialisation.

    Args:
        in_channels: channels of the images; 3 if pretrained. With another number the first convolution has as many.
        num_classes: number of logits C, ≥ 1.
        pretrained: whether `start` takes torchvision's `ResNet50_Weights.IMAGENET1K_V1`.

    Shape:
        float (B, in_channels, H, W), H and W ≥ 32 make sense → (B, num_classes).

    Raises:
        ConfigError: pretrained, but in_channels is not 3.
    """

    def __init__(self, in_channels: int, num_classes: int, pretrained: bool = False) -> None:
        if pretrained and in_channels != 3:
            raise ConfigError(f"model.pretrained: ImageNet's images have 3 channels, these {in_channels}")
        super().__init__(Bottleneck, [3, 4, 6, 3], num_classes=num_classes)
        if in_channels != 3:
            self.conv1 = nn.Conv2d(in_channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.pretrained = pretrained

    def prepare(self) -> None:
        """Fetch the weights into torch's cache, if they are wanted and not there.

        Raises:
            DataError: they cannot be downloaded, or are damaged; says where to put the file.
        """
        if self.pretrained:
            _imagenet_weights()

    def start(self) -> None:
        """Take up the ImageNet weights, all but the last layer's, if they are wanted.

        Raises:
            DataError: as `prepare`.
        """
        if not self.pretrained:
            return
        state = {key: value for key, value in _imagenet_weights().items() if not key.startswith("fc.")}
        missing = self.load_state_dict(state, strict=False)
        assert not missing.unexpected_keys
        assert all(key.startswith("fc.") for key in missing.missing_keys), missing.missing_keys


def _imagenet_weights() -> dict[str, Any]:
    file, folder = _WEIGHTS.url.rsplit("/", 1)[1], f"{torch.hub.get_dir()}/checkpoints"
    try:
        state = _WEIGHTS.get_state_dict(progress=False, check_hash=True, map_location="cpu", weights_only=True)
    except OSError as error:  # of the network or of the disk
        raise DataError(
            f"model.pretrained: the ImageNet weights are not in {folder} and could not be downloaded ({error}). "
            f"Put {file} there ({_WEIGHTS.url}), or start from scratch with model.pretrained=false"
        ) from error
    except Exception as error:  # torch has many words for a damaged file
        lines = str(error).splitlines() or [type(error).__name__]
        raise DataError(f"model.pretrained: {folder}/{file} is damaged ({lines[0]}); remove it") from error
    return dict(state)
