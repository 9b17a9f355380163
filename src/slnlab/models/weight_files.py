"""Pretrained weights: torchvision's published ones in torch's cache, or any file of a state_dict."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_class
from omegaconf import DictConfig
from torch import Tensor, nn

from slnlab.errors import DataError
from slnlab.text.messages import quoted

WRAPPERS = ("state_dict", "model", "model_state_dict")
"""Keys below which training scripts store a network's weights."""

PARALLEL = "module."
"""Prefix of all names in a state_dict of DataParallel."""


def cached(weights: Any) -> Path:
    """The file of torchvision's published weights in torch's cache, which may be missing."""
    return Path(torch.hub.get_dir(), "checkpoints", str(weights.url).rsplit("/", 1)[1])


def wanted(config: DictConfig) -> tuple[Path, str] | None:
    """The file of the published weights that a run starts from, which may be missing, and their address; None: none.

    Args:
        config: the run. A user's own network may have no `published_weights`.
    """
    of_network = getattr(get_class(config.model._target_), "published_weights", None)
    found: tuple[Path, str] | None = of_network() if config.model.get("pretrained") and of_network else None
    return found


def published(weights: Any, key: str, instead: str) -> dict[str, Tensor]:
    """torchvision's published weights, from torch's cache, downloaded if missing.

    Args:
        weights: an entry of torchvision's enum of weights.
        key: the key or option of the user, for messages.
        instead: the other way for the user, for messages.

    Raises:
        DataError: the weights cannot be downloaded, or are damaged. The message names the place of the file.
    """
    file = cached(weights)
    try:
        state = weights.get_state_dict(progress=False, check_hash=True, map_location="cpu", weights_only=True)
    except OSError as error:  # network or disk
        raise DataError(
            f"{key}: the ImageNet weights are not in {file.parent} and could not be downloaded ({error}). "
            f"Put {file.name} there ({weights.url}), or {instead}"
        ) from error
    except Exception as error:  # torch raises many types for a damaged file
        lines = str(error).splitlines() or [type(error).__name__]
        raise DataError(f"{key}: {file} is damaged ({lines[0]}); remove it") from error
    return dict(state)


def read_weights(file: Path) -> dict[str, Tensor]:
    """The state_dict in a file, without executing code: `.safetensors`, or what `torch.save` wrote.

    Raises:
        DataError: the file is missing, damaged, or holds something else.
    """
    if not file.is_file():
        raise DataError(f"{file}: there is no such file of weights")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file  # type: ignore[import-not-found,unused-ignore]

            found: Any = load_file(file)
        else:
            found = torch.load(file, map_location="cpu", weights_only=True)
    except ImportError:
        raise DataError(f"{file}: reading safetensors needs the extra: pip install 'slnlab[timm]'") from None
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{file}: is no file of weights, or holds Python objects, which are never read, because reading them would "
            "execute code; save the state_dict alone"
        ) from error
    except Exception as error:  # torch and safetensors raise many types for a damaged file
        lines = str(error).splitlines() or [type(error).__name__]
        raise DataError(f"{file}: is damaged or no file of weights ({lines[0]})") from error
    for name in WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    if not isinstance(found, Mapping) or not any(isinstance(value, Tensor) for value in found.values()):
        raise DataError(f"{file}: holds no state_dict, but {type(found).__name__}")
    weights = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
    if all(name.startswith(PARALLEL) for name in weights):
        weights = {name.removeprefix(PARALLEL): value for name, value in weights.items()}
    return weights


def fill(network: nn.Module, weights: Mapping[str, Tensor], but: Collection[str], origin: str) -> None:
    """Load weights into all layers of a network but some.

    Args:
        network: any network.
        weights: a state_dict.
        but: prefixes of names, such as `fc.`, which are left as they are, and which the weights may lack.
        origin: the weights' file, for messages.

    Raises:
        DataError: the weights belong to another network.
    """
    used = OrderedDict((name, value) for name, value in weights.items() if not name.startswith(tuple(but)))
    # MNASNet refuses a state_dict without a version. One of an older version does not fit by its shapes.
    used._metadata = {"": {"version": network._version}}  # type: ignore[attr-defined]
    try:
        found = network.load_state_dict(used, strict=False)
    except RuntimeError as error:
        raise DataError(f"{origin}: does not fit the network: {str(error).splitlines()[-1].strip()}") from error
    refuse_unfit(found.missing_keys, found.unexpected_keys, but, origin)


def refuse_unfit(missing: Collection[str], unexpected: Collection[str], but: Collection[str], origin: str) -> None:
    """Refuse weights that lack names of the network, or have others; see `fill`.

    Raises:
        DataError: there are such names.
    """
    for names, fault in ((missing, "lacks"), (unexpected, "has unknown weights")):
        if others := [name for name in names if not name.startswith(tuple(but))]:
            raise DataError(f"{origin}: does not fit the network: it {fault} {quoted(others, 3)}")
