"""A configuration as nested dicts and lists, and messages for the errors of OmegaConf."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from slnlab.errors import ConfigError
from slnlab.schema.options import fill
from slnlab.schema.sections import GROUPS


def container_of(config: DictConfig) -> dict[str, Any]:
    """The configuration as nested dicts and lists, without Hydra's own node.

    Interpolations are resolved, and the defaults of constructors are filled in. `preset` needs only its used values.

    Raises:
        ConfigError: interpolations lead nowhere, or values are missing; the message names all. See also
            `refuse_other_names`.
    """
    refuse_other_names(config)
    keys = [str(key) for key in config if key != "hydra"]
    for key in keys:
        node = config._get_node(key)
        if isinstance(node, DictConfig) and key in [*node] and isinstance(node._get_node(key), DictConfig):
            raise ConfigError(f"{key}.{key}: there is no such key; the YAML must begin with # @package _global_")
    try:
        container = {key: _resolved(config, key) for key in keys if key != "preset"}
    except OmegaConfBaseException as error:
        faults: dict[str, str] = {}
        for fault in (fault for key in keys if key != "preset" for fault in _faults(config, key)):
            missing = ": must be given" in fault  # one line for each missing key, however many values need it
            faults.setdefault(fault.split(":")[0] if missing else fault, fault)
        raise ConfigError("\n  ".join(faults.values()) or hydra_message(error)) from error
    try:
        container["preset"] = _resolved(config, "preset")
    except OmegaConfBaseException:
        container["preset"] = OmegaConf.to_container(config.preset)
    fill(container)
    return container


def refuse_other_names(config: DictConfig) -> None:
    """Refuse an option whose `name` is not that of its file. Runs that a run needs are composed by these names.

    Args:
        config: with Hydra's own node, which knows the files; without it nothing is checked.

    Raises:
        ConfigError: names the option's file, its `name`, and the right one.
    """
    choices = OmegaConf.select(config, "hydra.runtime.choices") or {}
    for group in GROUPS:
        chosen, name = choices.get(group), OmegaConf.select(config, f"{group}.name", throw_on_resolution_failure=False)
        if not (isinstance(chosen, str) and isinstance(name, str)):  # `check` names a missing one
            continue
        file = chosen.removesuffix(".yaml")
        if name != file:
            raise ConfigError(
                f"{group}.name: {name!r}, but the chosen option is {group}={file}, and the runs that a run needs are "
                f"composed by this name; give {group}/{file}.yaml the name {file}, or make {group}/{name}.yaml and "
                "choose it"
            )


def _resolved(config: DictConfig, key: str) -> Any:
    value = config[key]
    return OmegaConf.to_container(value, resolve=True, throw_on_missing=True) if OmegaConf.is_config(value) else value


def _faults(node: Any, key: Any) -> Iterator[str]:
    """The faults of a value and of all values below it."""
    try:
        value = node[key]
    except OmegaConfBaseException as error:
        yield hydra_message(error)
        return
    if OmegaConf.is_config(value):
        for inner in value if isinstance(value, DictConfig) else range(len(value)):
            yield from _faults(value, inner)


def shown(node: Any) -> Any:
    """A part of a configuration as nested dicts; a value that is missing is a message in angle brackets."""
    if not OmegaConf.is_config(node):
        return node
    if not isinstance(node, DictConfig):
        return OmegaConf.to_container(node, resolve=True)
    values: dict[str, Any] = {}
    for key in map(str, node):
        try:
            values[key] = shown(node[key])
        except OmegaConfBaseException as error:
            values[key] = f"<{hydra_message(error).partition(': ')[2]}>"
    return values


def flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted key → value of a nested configuration. Lists are values."""
    if not isinstance(node, dict):
        return {prefix: node}
    return {
        inner: leaf
        for key, value in node.items()
        for inner, leaf in flat(value, f"{prefix}.{key}" if prefix else str(key)).items()
    }


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The keys, in order, that two mappings do not have with equal values; None is as good as no key."""
    return [key for key in sorted(one.keys() | other.keys()) if one.get(key) != other.get(key)]


def hydra_message(error: BaseException) -> str:
    """The message of an error of Hydra or OmegaConf and its causes, without their advice on internals."""
    full_key = getattr(error, "full_key", None)
    parts: list[str] = []
    of_resolver = False  # a resolver of OmegaConf's, or with a bug; its error names no key
    seen: BaseException | None = error
    while seen is not None:
        text = str(seen)
        if resolving := re.match(r"(\w+) raised while resolving interpolation: ", text):
            text = text[resolving.end() :]
            of_resolver = of_resolver or resolving[1] not in ("ConfigError", "DataError")  # ours name their key
        for advice in ("\nTo append to your config", "\n    full_key", "\nConfig search path"):
            text = text.split(advice)[0].strip()
        if text and not any(text in part for part in parts):
            parts.append(text)
        full_key = full_key or getattr(seen, "full_key", None)
        seen = None if isinstance(seen, ConfigError) else seen.__cause__  # a ConfigError says all by itself
    message = ": ".join(parts)
    if ("nterpolation" in message or of_resolver) and full_key and not message.startswith(full_key):
        message = f"{full_key}: {message}"
    if "Interpolation key" in message and "to the shell" not in message:
        message += "; ${...} names a key of the configuration: leave $HOME and the like to the shell, in double quotes"
    if "Missing mandatory value" not in message:
        return message
    named = re.search(r"Missing mandatory value: ([\w.]+)", message)
    missing = named[1] if named else full_key
    return f"{missing}: must be given" + (f" (for {full_key})" if missing != full_key else "")
