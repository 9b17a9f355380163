"""Pretrained networks of torchvision and timm, each with the preprocessing that its weights were trained for."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torchvision
from PIL import Image
from torch import Tensor, nn

from slnlab.errors import ConfigError
from slnlab.models import timm_network
from slnlab.models.features import last_layer, recording
from slnlab.models.weight_files import fill, published, read_weights
from slnlab.processes.float32 import float32_convolutions
from slnlab.storage.hashes import file_hashes
from slnlab.text.messages import near

LIBRARIES = ("torchvision", "timm")

AUXILIARY = ("aux", "AuxLogits.")
"""Prefixes of the second classifiers of torchvision's GoogLeNet and Inception, which evaluation does not use."""

OLD_NAME = re.compile(r"(\.denselayer\d+\.(?:norm|conv))\.(?=[12]\.)")
"""A DenseNet's layer in old files, up to its number: `….denselayer1.norm.1.weight` is `….denselayer1.norm1.weight`."""


class Backbone(NamedTuple):
    """A network that gives an image its features."""

    network: nn.Module
    """Images (B, 3, H, W) float32 → features (B, D), in eval mode."""
    transform: Callable[[Image.Image], Tensor]
    """RGB image of any size → (3, H, W) float32, by the library's own preprocessing of these weights."""
    weights: str
    """Names the weights: the MD5 of their file, or torchvision's name."""


class Penultimate(nn.Module):
    """Images → the input of a classifier's last linear layer, see `slnlab.models.features.recording`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, D) of images (B, 3, H, W).

        Raises:
            ConfigError: the last linear layer's input is not one vector for each image.
        """
        with float32_convolutions(), recording(self.network) as penultimate:
            self.network(images)
            return penultimate.take(len(images))


def backbone(model: str, weights: Path | None) -> Backbone:
    """Make a network by the name of its library and architecture.

    Args:
        model: `torchvision:NAME` or `timm:NAME`.
        weights: file of its weights; None: torchvision's newest ImageNet weights, from torch's cache or downloaded.

    Raises:
        ConfigError: there is no such library or architecture, timm is not installed, or has no weights.
        DataError: the weights are missing, damaged, or belong to another architecture.
    """
    library, _, name = model.partition(":")
    if library not in LIBRARIES or not name:
        raise ConfigError(f"--model: {model!r} is not allowed: torchvision:NAME or timm:NAME")
    found = _of_torchvision(name, weights) if library == "torchvision" else _of_timm(name, weights)
    return found._replace(network=found.network.eval().to(memory_format=torch.channels_last))


def _of_torchvision(name: str, file: Path | None) -> Backbone:
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise ConfigError(
            f"--model: torchvision has no {name!r}{near(name, known)}; torchvision.models.list_models() lists all"
        )
    entries: Any = torchvision.models.get_model_weights(name)
    entry = next((each for each in entries if file and file.name == each.url.rsplit("/", 1)[1]), entries.DEFAULT)
    with torch.random.fork_rng(devices=[]):
        network: nn.Module = torchvision.models.get_model(name, weights=None, **_options(name, entry))
    last = last_layer(network)
    prefix = next(f"{place}." for place, module in network.named_modules() if module is last)
    if file is None:
        state, origin = published(entry, "--weights", "name another file"), entry.name
    else:
        state, origin = read_weights(file), _digest(file)
    if name.startswith("densenet"):  # torchvision's published files have the old names
        state = {OLD_NAME.sub(r"\1", key): value for key, value in state.items()}
    fill(network, state, [prefix, *AUXILIARY], str(file or entry.name))
    return Backbone(Penultimate(network), entry.transforms(), origin)


def _options(name: str, entry: Any) -> dict[str, Any]:
    """The arguments that torchvision gives to an architecture together with pretrained weights."""
    if name in ("googlenet", "inception_v3"):  # their weights were trained with inputs in [−1, 1]
        return {"transform_input": True, "init_weights": False}
    return {"image_size": entry.meta["min_size"][0]} if name.startswith("vit_") else {}


def _of_timm(name: str, file: Path | None) -> Backbone:
    with torch.random.fork_rng(devices=[]):
        network = timm_network.create(name, 3, 0, "--model")
    if file is None:
        where: Any = network.pretrained_cfg.get("hf_hub_id") or f"timm/{name}"  # type: ignore[operator,union-attr]
        raise ConfigError(
            f"--weights: must be given for timm: the file model.safetensors of https://huggingface.co/{where}, or your "
            "own weights of this architecture"
        )
    timm_network.load(network, file, 3)
    import timm.data  # type: ignore[import-not-found,import-untyped,unused-ignore]

    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network), is_training=False)
    return Backbone(network, transform, _digest(file))


def _digest(file: Path) -> str:
    return file_hashes(file.absolute().parent, [file.name], fresh=True)[file.name]
