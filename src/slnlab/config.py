"""From the command line to a checked configuration, and from a configuration to the run's directory.

Nothing here imports torch: a wrong key or an impossible value is refused in the time Hydra needs to compose.
"""

from __future__ import annotations

import difflib
import importlib.util
import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from packaging.version import Version
from pydantic import ValidationError

from slnlab.errors import ConfigError
from slnlab.plain import flat, plain, said_by
from slnlab.quoting import has_no_key, mended
from slnlab.resolvers import register_resolvers
from slnlab.schemas.base import Section, allowed_by
from slnlab.schemas.config import GROUPS, Root, class_map_errors, contradictions, redefinitions

_HERE = Path(__file__).resolve().parent
_CHECKOUT = _HERE.parents[1]
CONF_DIR = _CHECKOUT / "conf" if (_CHECKOUT / "pyproject.toml").exists() else _HERE / "conf"
"""The configuration: a checkout's `conf/`, or the copy inside an installed package."""

extra_config_dirs: list[str] = []
"""Of the command that this process is, or that has started it: its --config-dir, and others that it searches."""

FIRST_PARTS = {*GROUPS, *Root.model_fields, "hydra"}
"""Of keys."""

_composing = threading.Lock()
"""Hydra keeps what it has found of itself in the process, and finds it once."""


def compose(overrides: Sequence[str] = ()) -> DictConfig:
    """Compose the configuration of a run as the command line does.

    Also inside another application of Hydra, and in threads: it is always slnlab's configuration, and theirs stays
    as it is.

    Args:
        overrides: Hydra overrides, such as `["noise=asym", "sln.sigma=0.5"]`.

    Raises:
        ConfigError: a key or an option that does not exist; the message names it and what is near.
    """
    config = compose_with_hydra(overrides)
    with open_dict(config):
        del config["hydra"]
    return config


def compose_with_hydra(overrides: Sequence[str] = ()) -> DictConfig:
    """The same with Hydra's own node.

    Raises:
        ConfigError: see `compose`.
    """
    try:
        return _load(overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error, overrides)) from error


def refuse_without_key(overrides: Sequence[str], several: bool = False) -> None:
    """What Hydra would take for an option of no group.

    Raises:
        ConfigError: an override has no key.
    """
    for text in filter(has_no_key, overrides):
        raise ConfigError(mended(overrides, FIRST_PARTS, several) or f"{text}: is not KEY=VALUE")


def _load(overrides: Sequence[str]) -> DictConfig:
    refuse_without_key(overrides)
    # By a loader of our own: `hydra.compose` asks the process's only Hydra, which may be another application's.
    with _composing:
        base = VersionBase.instance()
        theirs, base.version_base = base.version_base, Version("1.3")
        try:
            path = create_config_search_path(str(CONF_DIR))
            for folder in extra_config_dirs:
                path.prepend("command-line", folder, anchor="schema")  # which Hydra wants last
            return ConfigLoaderImpl(path).load_configuration("train", list(overrides), RunMode.RUN, from_shell=False)
        finally:
            base.version_base = theirs


def check(config: DictConfig) -> None:
    """Refuse what cannot work.

    Raises:
        ConfigError: names every wrong key, its value, and what is allowed.
    """
    container = plain(config)
    problems = list(_problems(container))
    if not problems and container["init"]["from"] is not None:
        from slnlab import source_runs  # which needs this module

        problems = list(source_runs.problems(config))
    if problems:
        lines = [f"{key}: {what}" for key, what in problems]
        raise ConfigError("\n  ".join(["the configuration cannot work:", *lines] if lines[1:] else lines))


SECRETS = re.compile(r"(api|access|private|auth)?_?(key|token|secret|password|credentials?)", re.IGNORECASE)


def _problems(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in flat(config).items():
        if isinstance(value, str) and value and SECRETS.fullmatch(key.split(".")[-1]):
            yield key, "looks like a secret, and a configuration is written to files; keep it in the environment"
            return  # before anything that would repeat its value
    groups = {key: config[key] for key in GROUPS if key in config}
    sound = True
    for name in GROUPS.keys() - groups.keys():
        sound = False
        yield name, "is missing"
    rest = {key: value for key, value in config.items() if key not in GROUPS}
    sections: list[tuple[str, type[Section], Any]] = [("", Root, rest)]
    sections += [(group, schema_of(group, node), node) for group, node in groups.items()]
    for prefix, schema, node in sections:
        try:
            schema.model_validate(node)
        except ValidationError as error:
            sound = False
            yield from _explain_validation(prefix, schema, node, error)
    yield from redefinitions(config)
    if sound:
        yield from contradictions(config)
        if "class_map" in config["noise"]:
            for what in class_map_errors(config["noise"]["class_map"], config["data"]):
                yield "noise.class_map", what


def schema_of(group: str, node: Any) -> type[Section]:
    """The schema of one option of a group: its own, that of the class which it builds, or the group's.

    A `_target_` outside slnlab without a schema of ours may have keys that only it knows.
    """
    base = GROUPS[group]
    node = node if isinstance(node, dict) else {}
    target = str(node.get("_target_", "slnlab."))
    ours = target.startswith("slnlab.")
    built = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", target.rpartition(".")[2]).lower() if ours else ""
    for name in (str(node.get("name")), built):
        module = f"slnlab.schemas.{group}.{name}"
        if name.isidentifier() and importlib.util.find_spec(module):
            schema: type[Section] = importlib.import_module(module).Schema
            return schema
    if ours:
        return base
    return type(base.__name__, (base,), {"model_config": {**base.model_config, "extra": "allow"}})


def _explain_validation(
    prefix: str, schema: type[Section], node: Any, error: ValidationError
) -> Iterator[tuple[str, str]]:
    told: set[str] = set()
    for item in error.errors():
        path, several = _place(schema, item["loc"])
        key = ".".join([prefix, *path] if prefix else path)
        if several is not None:  # pydantic has an error for each type
            if key not in told:
                told.add(key)
                yield key, f"{_value(node, path)!r} is not allowed: {allowed_by(several)}"
        elif item["type"] == "extra_forbidden":
            known = sorted([*_keys_at(schema, path[:-1]), *(GROUPS if key == path[0] else ())])
            yield key, f"there is no such key{_near(path[-1], known)}; the keys are {', '.join(known)}"
        else:
            message = item["msg"].removeprefix("Value error, ")
            if not path:
                yield key, message  # of the section as a whole
            elif item["type"] == "missing":
                yield key, "is missing"
            else:
                yield key, f"{item['input']!r} is not allowed: {message[0].lower()}{message[1:]}"


def _place(schema: type[Section], loc: Sequence[int | str]) -> tuple[list[str], Any]:
    """The key that an error is about; and its types, if it may be of several. Otherwise None.

    Behind a key of several types pydantic puts its name for the one that it has tried (`constrained-float`).
    """
    path = [str(part) for part in loc]
    node: Any = schema
    for number, part in enumerate(loc[:-1]):
        fields = node.model_fields if isinstance(node, type) and issubclass(node, Section) else {}
        node = next((field.annotation for name, field in fields.items() if part in (name, field.alias)), None)
        if get_origin(node) in (Union, UnionType) and len({*get_args(node)} - {NoneType}) > 1:
            return path[: number + 1], node
    return path, None


def _value(node: Any, path: Sequence[str]) -> Any:
    for part in path:
        node = node[part]
    return node


def _keys_at(schema: type[Section], path: Sequence[str]) -> Iterator[str]:
    for part in path:
        annotation = schema.model_fields[part].annotation
        assert isinstance(annotation, type)
        schema = annotation
    for name, field in schema.model_fields.items():
        yield field.alias or name


def _near(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def explain(error: BaseException, overrides: Sequence[str] = (), several: bool = False) -> str:
    """What Hydra or OmegaConf has to say; of a key that does not exist, which ones there are; of one that was typed so
    that it cannot be read, how to type it.

    Args:
        error: what was raised.
        overrides: what was typed; it says which options' keys are the known ones.
        several: a comma separates values of a sweep.
    """
    message = said_by(error)
    if isinstance(error, OverrideParseException) or "Ambiguous value" in message:
        return mended(overrides, FIRST_PARTS, several, lambda key: _kinds(key, overrides)) or message
    if "Could not override" in message:
        key = message.split("'")[1]
        *path, leaf = key.split(".")
        known = _known_keys(path, overrides)
        if known:
            where = ".".join(path) or "the configuration"
            message = f"{key}: there is no such key{_near(leaf, known)}; the keys of {where} are {', '.join(known)}"
    return message


def _known_keys(path: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """The keys below `path` in the configuration of the options that were chosen."""
    node: Any = _of_options(overrides)
    for part in path:
        node = node.get(part) if isinstance(node, DictConfig) else None
    return [str(key) for key in node if key != "hydra"] if isinstance(node, DictConfig) else []


def _of_options(overrides: Sequence[str]) -> DictConfig:
    """The configuration of the options that were chosen."""
    try:
        return _load([override for override in overrides if override.split("=")[0] in GROUPS])
    except (HydraException, OmegaConfBaseException):  # several options at once: a sweep, whose first is the default one
        return _load([])


def _kinds(key: str, overrides: Sequence[str]) -> set[type]:
    """The types that a key's values may have; dict: it chooses an option; none: it is not known."""
    if key and (CONF_DIR / key).is_dir():
        return {dict}
    group, *path = key.split(".")
    node: Any = Root
    if group in GROUPS:
        node = schema_of(group, OmegaConf.to_container(_of_options(overrides)[group]))
    else:
        path = [group, *path]
    for part in path:
        fields = node.model_fields if isinstance(node, type) and issubclass(node, Section) else {}
        node = next((field.annotation for name, field in fields.items() if part in (name, field.alias)), None)
    return set() if node is None else set(_single_types(node))


def _single_types(annotation: Any) -> Iterator[type]:
    if get_origin(annotation) in (Union, UnionType):
        for member in get_args(annotation):
            yield from _single_types(member)
    elif get_origin(annotation) is Annotated:
        yield from _single_types(get_args(annotation)[0])
    else:
        yield get_origin(annotation) or annotation


register_resolvers()
