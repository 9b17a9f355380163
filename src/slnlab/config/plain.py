"""A configuration as plain containers, and what is wrong with one in plain words."""

from __future__ import annotations

import re
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from slnlab.errors import ConfigError


def plain(config: DictConfig) -> dict[str, Any]:
    """The configuration without Hydra's own node, as plain containers, every interpolation resolved.

    Raises:
        ConfigError: one leads nowhere, or a value is missing.
    """
    try:
        if "hydra" in config:  # it has interpolations that only Hydra resolves
            config = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
        container = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(said_by(error)) from error
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """A nested configuration by dotted keys; lists are values."""
    if not isinstance(node, dict):
        return {prefix: node}
    return {
        inner: leaf
        for key, value in node.items()
        for inner, leaf in flat(value, f"{prefix}.{key}" if prefix else str(key)).items()
    }


def said_by(error: BaseException) -> str:
    """What Hydra or OmegaConf has to say, and what caused it, without their advice on internals."""
    full_key = getattr(error, "full_key", None)
    parts: list[str] = []
    seen: BaseException | None = error
    while seen is not None:
        text = re.sub(r"^\w+ raised while resolving interpolation: ", "", str(seen))  # by a resolver of ours
        for advice in ("\nTo append to your config", "\n    full_key", "\nConfig search path"):
            text = text.split(advice)[0].strip()
        if text and not any(text in part for part in parts):
            parts.append(text)
        full_key = full_key or getattr(seen, "full_key", None)
        seen = seen.__cause__
    message = ": ".join(parts)
    if "nterpolation" in message and full_key and not message.startswith(full_key):
        message = f"{full_key}: {message}"
    if "Interpolation key" in message and "to the shell" not in message:
        message += "; ${...} names a key of the configuration: leave $HOME and the like to the shell, in double quotes"
    return f"{full_key}: must be given" if "Missing mandatory value" in message else message
