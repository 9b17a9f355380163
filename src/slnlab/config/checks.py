"""The check of a configuration: the schema of each section, and the rules between sections."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from omegaconf import DictConfig
from pydantic import ValidationError

from slnlab.config.container import container_of, flat
from slnlab.errors import ConfigError
from slnlab.schema.contradictions import class_map_errors, contradictions, redefinitions
from slnlab.schema.kinds import SECTION, Section, allowed_by, type_at
from slnlab.schema.options import PREFIX, keys_of, schema_of
from slnlab.schema.sections import GROUPS, SOURCES, Root, node_at
from slnlab.text.messages import near


def check(config: DictConfig) -> None:
    """Refuse an impossible configuration.

    Raises:
        ConfigError: names every wrong key, its value and the allowed values.
    """
    refuse(list(problems(container_of(config))))


def refuse(found: Sequence[tuple[str, str]]) -> None:
    """Raise one error for all problems, if there are any.

    Args:
        found: pairs (key, fault with the allowed values).

    Raises:
        ConfigError: there are problems.
    """
    lines = [f"{key}: {what}" for key, what in found]
    if lines:
        raise ConfigError("\n  ".join(["the configuration cannot work:", *lines] if lines[1:] else lines))


SECRETS = re.compile(
    r"key|(.*_)?((api|access|private|auth|secret)_?key(_id)?|(api|access|auth)?(token|secret|password|passwd|credentials?))",
    re.IGNORECASE,
)
"""Last parts of keys whose values are no business of a file."""


def problems(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The faults of a configuration (see `container_of`): pairs (key, fault with the allowed values)."""
    for key, value in flat(config).items():
        if isinstance(value, str) and value and SECRETS.fullmatch(key.split(".")[-1]):
            yield key, "looks like a secret, and a configuration is written to files; keep it in the environment"
            return  # other messages could repeat the secret
    groups = {key: config[key] for key in GROUPS if key in config}
    unsound = GROUPS.keys() - groups.keys()
    yield from ((name, "is missing") for name in unsound)
    rest = {key: value for key, value in config.items() if key not in GROUPS}
    nodes = [
        *groups.items(),
        *((key, node) for key in SOURCES if isinstance(node := node_at(config, key), dict) and node),
    ]
    sections: list[tuple[str, type[Section], Any]] = [("", Root, rest)]
    for key, node in nodes:
        try:
            sections.append((key, schema_of(key, node), node))
        except ConfigError as error:
            unsound.add(key)
            yield f"{key}._target_", str(error)
    for prefix, schema, node in sections:
        try:
            schema.model_validate(node)
        except ValidationError as error:
            unsound.add(prefix)
            yield from _explain_validation(prefix, schema, node, error)
    if "method" not in unsound:
        yield from redefinitions(config)
    if not unsound:
        yield from contradictions(config)
        if "class_map" in config["noise"]:
            for what in class_map_errors(config["noise"]["class_map"], config["data"]):
                yield "noise.class_map", what


def _explain_validation(
    prefix: str, schema: type[Section], node: Any, error: ValidationError
) -> Iterator[tuple[str, str]]:
    reported: set[str] = set()
    for item in error.errors():
        path, union = _place(schema, item["loc"])
        key = ".".join([prefix, *path] if prefix else path)
        if union is not None:  # pydantic reports an error for each member
            if key not in reported:
                reported.add(key)
                yield key, f"{_value(node, path)!r} is not allowed: {allowed_by(union)}"
        elif item["type"] == "extra_forbidden":
            known = sorted([*_keys_at(schema, path[:-1]), *(GROUPS if key == path[0] else ())])
            yield key, f"there is no such key{near(path[-1], known)}; the keys are {', '.join(known)}"
        else:
            message = item["msg"].removeprefix("Value error, ")
            if item["type"] == SECTION:
                yield prefix, message
            elif item["type"] == "missing":
                parameter = schema.model_fields.get(PREFIX + path[-1])
                advice = parameter.description if parameter else None
                yield key, "is missing" + (f"; {advice}" if advice else "")
            elif item["type"] == "model_type":
                inner = ", ".join(f"{key}.{name}" for name in _keys_at(schema, path))
                yield key, f"{item['input']!r} is not allowed: it has the keys {inner}"
            else:
                yield key, f"{item['input']!r} is not allowed: {message[0].lower()}{message[1:]}"


def _place(schema: type[Section], loc: Sequence[int | str]) -> tuple[list[str], Any]:
    """The key of a validation error, and its union of types; None for a key with one type.

    Pydantic appends its own name of the tried type (`constrained-float`) to a key with a union.
    """
    path = [str(part) for part in loc]
    node: Any = schema
    for number, part in enumerate(loc[:-1]):
        node = type_at(node, str(part))
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
    yield from keys_of(schema)
