"""Composition: from overrides to the configuration of a run, or to a message about the wrong one.

No torch is imported, so a wrong key is refused in the time that Hydra needs to compose.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from slnlab.config.container import flat, hydra_message, refuse_other_names
from slnlab.config.loading import CONF_DIR, FIRST_PARTS, load
from slnlab.errors import ConfigError
from slnlab.schema.kinds import type_at
from slnlab.schema.options import keys_of, schema_of
from slnlab.schema.sections import GROUPS, Root
from slnlab.text.messages import near
from slnlab.text.quoting import advice_on


def compose(overrides: Sequence[str] = ()) -> DictConfig:
    """Compose the configuration of a run, as the command line does.

    It works in threads and inside other Hydra applications, and leaves their configuration alone.

    Args:
        overrides: Hydra overrides, such as `["noise=asym", "sln.sigma=0.5"]`.

    Raises:
        ConfigError: a key or an option does not exist; the message names it and a close match. Or the name of an
            option is not that of its file.
    """
    config = compose_with_hydra(overrides)
    with open_dict(config):
        del config["hydra"]
    return config


def compose_with_hydra(overrides: Sequence[str] = ()) -> DictConfig:
    """The configuration of `compose` with Hydra's own node.

    Raises:
        ConfigError: see `compose`.
    """
    try:
        config = load(overrides)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise ConfigError(explain(error, overrides)) from error
    refuse_other_names(config)
    return config


def explain(error: BaseException, overrides: Sequence[str] = (), multirun: bool = False) -> str:
    """A message for an error of Hydra or OmegaConf.

    For an unknown key it lists the existing ones; for an unreadable override it says what to type.

    Args:
        error: the error.
        overrides: the typed overrides; their options decide which keys exist.
        multirun: True if a comma separates the values of a sweep.
    """
    if isinstance(error, MarkedYAMLError) and (mark := error.problem_mark):
        return f"{mark.name}: is no YAML: line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    message = hydra_message(error)
    if isinstance(error, OverrideParseException) or "Ambiguous value" in message:
        return advice_on(overrides, FIRST_PARTS, multirun, lambda key: _kinds(key, overrides)) or message
    if found := re.match(
        r"In '.*?': Could not find '(.+)/(.+?)'\n\nAvailable options in '.+?':\n(.*)", message, re.DOTALL
    ):
        group, option, known = found[1], found[2], found[3].split()
        hint = near(option, known)
        return f"{group}={option}: there is no such option{hint}; --config-dir=DIR adds your own to {', '.join(known)}"
    if "Could not override" in message:
        key = message.split("'")[1]
        *path, leaf = key.split(".")
        known = _known_keys(path, overrides)
        if leaf not in known and leaf in _keys_of_option(path, overrides):
            message = f"{key}: is not in the YAML, which leaves it at its default; +{key}=VALUE sets it"
        elif known:
            where = ".".join(path) or "the configuration"
            hint = near(leaf, known) if path else _anywhere(leaf, overrides)
            message = f"{key}: there is no such key{hint}; the keys of {where} are {', '.join(known)}"
    return message


def _anywhere(leaf: str, overrides: Sequence[str]) -> str:
    """The hint at keys of any section that end in this word, or in one like it: optimizer.lr for `lr`."""
    container = OmegaConf.to_container(_chosen_options(overrides), resolve=False)
    assert isinstance(container, dict)
    every = [key for key in flat(container) if not key.startswith(("preset.", "hydra."))]
    if ends := [key for key in every if key.rpartition(".")[2] == leaf][:3]:
        return f" (did you mean {' or '.join(ends)}?)"
    top = [str(key) for key in container if key != "hydra"]
    close = difflib.get_close_matches(leaf, [*top, *(key.rpartition(".")[2] for key in every)], n=1)
    found = [key for key in (*top, *every) if close and key.rpartition(".")[2] == close[0]]
    return f" (did you mean {found[0]}?)" if found else ""


def _known_keys(path: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """The keys below `path` in the configuration of the chosen options."""
    node: Any = _chosen_options(overrides)
    for part in path:
        node = node.get(part) if isinstance(node, DictConfig) else None
    return [str(key) for key in node if key != "hydra"] if isinstance(node, DictConfig) else []


def _keys_of_option(path: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """All keys of the chosen option of a group, also those that its YAML leaves out."""
    if len(path) != 1 or path[0] not in GROUPS:
        return []
    try:
        return keys_of(schema_of(path[0], OmegaConf.to_container(_chosen_options(overrides)[path[0]])))
    except ConfigError:
        return []


def _chosen_options(overrides: Sequence[str]) -> DictConfig:
    """The configuration of the chosen options, without other overrides."""
    try:
        return load([override for override in overrides if override.split("=")[0] in GROUPS])
    except (HydraException, OmegaConfBaseException):  # a sweep over options: take the default ones
        return load([])


def _kinds(key: str, overrides: Sequence[str]) -> set[type]:
    """The types of a key's values: `dict` alone for a group, empty for an unknown key."""
    if key and (CONF_DIR / key).is_dir():
        return {dict}
    group, *path = key.split(".")
    node: Any = Root
    if group in GROUPS:
        try:
            node = schema_of(group, OmegaConf.to_container(_chosen_options(overrides)[group]))
        except ConfigError:
            return set()
    else:
        path = [group, *path]
    for part in path:
        node = type_at(node, part)
    return set() if node is None else set(_single_types(node))


def _single_types(annotation: Any) -> Iterator[type]:
    if get_origin(annotation) in (Union, UnionType):
        for member in get_args(annotation):
            yield from _single_types(member)
    elif get_origin(annotation) is Annotated:
        yield from _single_types(get_args(annotation)[0])
    else:
        kind = get_origin(annotation) or annotation
        yield list if kind is Sequence else kind
