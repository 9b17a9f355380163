"""Any image classifier of timm (pip install 'slnlab[timm]'), with weights from a local file."""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from slnlab.errors import ConfigError, DataError
from slnlab.models.weight_files import read_weights, refuse_unfit
from slnlab.text.messages import near

NOT_INSTALLED = "timm is not installed: pip install 'slnlab[timm]'"


class Timm(nn.Module):
    """A network of timm with a new last layer for `num_classes`.

    The constructor reads no file. `start` loads the weights of all layers but the last; timm converts the first
    convolution of colour images to other channels. A resumed run has its checkpoint instead. Nothing is downloaded.

    Args:
        in_channels: channels of the images, ≥ 1.
        num_classes: number of logits C, ≥ 1.
        architecture: timm's name, perhaps with a tag: `convnext_tiny`, `vit_small_patch14_dinov2.lvd142m`.
        weights: file of weights of this architecture, `.safetensors`, `.bin` or `.pth`; None: random ones.

    Shape:
        float (B, in_channels, H, W) → (B, num_classes). Many transformers have one size H = W.

    Raises:
        ConfigError: timm is not installed, or has no such architecture.
    """

    def __init__(self, in_channels: int, num_classes: int, architecture: str, weights: str | None = None) -> None:
        super().__init__()
        self.network = create(architecture, in_channels, num_classes, "model.architecture")
        self.in_channels = in_channels
        self.weights = None if weights is None else Path(weights).expanduser()

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of images (B, in_channels, H, W).

        Raises:
            ConfigError: the architecture has another image size.
        """
        try:
            logits: Tensor = self.network(images)
        except AssertionError as error:  # how timm's transformers refuse a size
            raise ConfigError(f"model.architecture: the images have another size: {error}") from error
        return logits

    def prepare(self) -> None:
        """Check the file of weights.

        Raises:
            DataError: the file is missing or damaged.
        """
        if self.weights is not None:
            read_weights(self.weights)

    def start(self) -> None:
        """Load the weights of all layers but the last.

        Raises:
            DataError: the file is missing or damaged, or belongs to another architecture.
        """
        if self.weights is not None:
            load(self.network, self.weights, self.in_channels)


def create(architecture: str, in_channels: int, num_classes: int, key: str) -> nn.Module:
    """A network of timm with random weights.

    Args:
        architecture: timm's name of it.
        in_channels: channels of the images.
        num_classes: number of logits; 0: the network returns its features (B, D).
        key: key or option with the name, for messages.

    Raises:
        ConfigError: timm is not installed, or has no such architecture.
    """
    try:
        import timm  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError as error:
        raise ConfigError(f"{key}: {NOT_INSTALLED}") from error
    if not timm.is_model(architecture):
        raise ConfigError(
            f"{key}: timm has no {architecture!r}{near(architecture, timm.list_models())}; timm.list_models() lists all"
        )
    try:
        network: nn.Module = timm.create_model(architecture, in_chans=in_channels, num_classes=num_classes)
    except RuntimeError as error:  # such as an unknown tag behind the name
        raise ConfigError(f"{key}: {architecture!r}: {error}") from error
    return network


def load(network: nn.Module, file: Path, in_channels: int) -> None:
    """Load weights into a network of `create` with these channels, except for those of its last layer.

    Raises:
        DataError: see `Timm.start`.
    """
    from timm.models import load_pretrained  # type: ignore[import-not-found,import-untyped,unused-ignore]

    stated: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    weights = read_weights(file)
    logging.getLogger("timm").setLevel(logging.ERROR)  # it warns of what is refused below
    missing, unexpected = list[str](), list[str]()

    def note(_: nn.Module, keys: Any) -> None:
        missing.extend(keys.missing_keys)
        unexpected.extend(keys.unexpected_keys)

    handle = network.register_load_state_dict_post_hook(note)
    try:
        load_pretrained(
            network,
            {**stated, "source": "", "state_dict": weights, "custom_load": False, "label_offset": 0},
            num_classes=-1,  # differs from every file's, so that timm drops the last layer
            in_chans=in_channels,
            filter_fn=getattr(importlib.import_module(type(network).__module__), "checkpoint_filter_fn", None),
        )
    except Exception as error:  # conversions of foreign weights fail in many ways
        reason = (str(error).splitlines() or [type(error).__name__])[-1].strip()
        raise DataError(f"{file}: does not fit {stated.get('architecture', 'the network')}: {reason}") from error
    finally:
        handle.remove()
    last = stated.get("classifier") or ()
    refuse_unfit(missing, unexpected, [f"{name}." for name in ([last] if isinstance(last, str) else last)], str(file))
