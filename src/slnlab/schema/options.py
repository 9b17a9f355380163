"""The schema of an option: the keys of its group and the parameters of its constructor."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any

from pydantic import AfterValidator, Field, create_model

from slnlab.errors import ConfigError
from slnlab.schema.composable import COMPOSABLE
from slnlab.schema.constructors import REQUIRED, UNKNOWN, Constructor, calls_super, constructor, defined, derives
from slnlab.schema.kinds import (
    Betas,
    Count,
    ExistingPath,
    LabelsPath,
    NonNegative,
    NothingDrawn,
    Positive,
    Rate,
    Section,
    unused,
)
from slnlab.schema.law import network_names
from slnlab.schema.sections import GROUPS, SOURCES, Source, node_at
from slnlab.schema.source_code import definition

MUST_TAKE = {
    "method": (
        ("optimizer", "scheduler", "clip_norm", "seed", "reset_optimizer_each_epoch"),
        "the __init__ of a method takes **options and calls super().__init__ with them",
    ),
    "logger": (
        ("group", "title", "about", "config"),
        "a logger is called with (run, *, group, title, about, config), see docs/wandb.md",
    ),
}
"""Group → parameters that slnlab always passes by name, and advice for a `_target_` without one of them."""

SUPPLIED = {
    "method": {
        *(*MUST_TAKE["method"][0], "class_losses"),
        *(parameter for each in COMPOSABLE for parameter in each.parameters),
    },
    "noise": {"labels", "images", "num_classes", "num_train", "generator", "num_donors", "classes", "paths"},
    "data": {"noise", "seed"},
    "logger": {*MUST_TAKE["logger"][0]},
}
"""Group → parameters that slnlab passes by name. They are no keys of the configuration."""

PREFIX = "key_"
"""Prefix of the fields for a constructor's keys, as pydantic reserves names such as `copy` and `json`."""

WRITTEN_AS = {"method": (ast.ClassDef, "a class"), "loss": (ast.FunctionDef, "a function")}
"""Group → the statement that defines `_target_`, and its name in words."""

SOURCE_METHODS = ("prepare", "load")
"""Methods that every data source defines."""

MUST_CALL_SUPER = {
    "__init__": "keeps the networks",
    "setup": "makes the sample table",
    "on_train_epoch_start": "begins the epoch",
    "on_save_checkpoint": "saves the sample table",
    "on_load_checkpoint": "reads the sample table",
}
"""Functions in which a user's method must call the base's → what the base does there."""

POSITIONAL = {"loss": 1, "optimizer": 1, "scheduler": 1, "logger": 1}
"""Group → number of parameters that slnlab passes by place. A method has one for each network."""

IF_MISSING = {"loss": "a loss is called with the logits (B, C) alone, and returns the loss of every class, (B, C)"}
"""Group → advice for a parameter without a key, if slnlab could be meant to pass it by place."""


def _needed(donor: dict[str, Any] | None) -> dict[str, Any]:
    if not donor:
        raise ValueError("open-set noise takes its images from another data set, and this one's preset names none")
    return donor


BETTER_KINDS: dict[str, dict[str, Any]] = {
    "noise": {"path": LabelsPath, "class_map": Any, "probabilities": ExistingPath | None},
    "optimizer": {"momentum": Rate, "weight_decay": NonNegative, "betas": Betas},
    "scheduler": {"milestones": list[Count], "gamma": Positive, "T_max": Count, "eta_min": NonNegative},
}
"""Types of keys whose constructor belongs to a library, or takes another value than the configuration holds."""

EXTRA_KEYS: dict[str, dict[str, Any]] = {
    "num_donors": {"donor": Annotated[dict[str, Any] | None, AfterValidator(_needed)]},
    "probabilities": {"clean_run": list[str]},
}
"""Parameter of a noise function → the keys that its option has because of it."""

UNUSED_KEYS: dict[str, dict[str, Any]] = {
    "generator": {"seed": NothingDrawn},
    "rate": {"rate": Annotated[float, unused("this noise takes no rate; leave it at 0")]},
}
"""Parameter of a noise function → the keys without a use if it is missing."""


def schema_of(group: str, node: Any) -> type[Section]:
    """The schema of an option.

    Args:
        group: name of its group; any other name stands for data sources.
        node: the option's node.

    Raises:
        ConfigError: its `_target_` cannot be found, or is a class in place of a function, or the reverse, or does not
            take one of `MUST_TAKE`; or a data source lacks a method, or a method is no `Method`, or does not call the
            base's in one of `MUST_CALL_SUPER`.
    """
    base = GROUPS.get(group, Source)
    target = node.get("_target_") if isinstance(node, Mapping) else None
    if not isinstance(target, str):
        return base
    found = constructor(target)
    if found is not None and group in WRITTEN_AS and not isinstance(definition(target)[1], WRITTEN_AS[group][0]):
        raise ConfigError(f"{target} is not {WRITTEN_AS[group][1]}, as a {group} must be")
    if base is Source and (lacking := [name for name in SOURCE_METHODS if not defined(target, name)]):
        raise ConfigError(f"{target} lacks {' and '.join(lacking)}; a data source has `prepare()` and `load(split)`")
    if found is not None and group == "method" and not derives(target, "slnlab.methods.base.Method"):
        raise ConfigError(f"{target} is no slnlab.methods.Method, as a method must be")
    for name, what in MUST_CALL_SUPER.items() if group == "method" else ():
        if not calls_super(target, name):
            raise ConfigError(f"{target}.{name} must call super().{name}, which {what}")
    if found is None:
        return type(base.__name__, (base,), {"model_config": {**base.model_config, "extra": "allow"}})
    names, advice = MUST_TAKE.get(group, ((), ""))
    untaken = [name for name in names if name not in found.parameters]
    lightnings = target.startswith(("pytorch_lightning.", "lightning."))  # its loggers hand their options to libraries
    if untaken and (lightnings or not (found.more or found.ignores)):
        raise ConfigError(f"{target} does not take {', '.join(untaken)}; {advice}")
    leading = len(network_names(target)) if group == "method" else POSITIONAL.get(group, 0)
    return _schema(group, base, found, leading, library=target.startswith("torch."))


@cache
def _schema(group: str, base: type[Section], found: Constructor, leading: int, library: bool) -> type[Section]:
    by_place = [name for name, parameter in found.parameters.items() if parameter.positional][:leading]
    fields: dict[str, Any] = {}
    for name, parameter in found.parameters.items():
        if name in SUPPLIED.get(group, ()) or name in by_place or name in keys_of(base):
            continue
        kind = BETTER_KINDS.get(group, {}).get(name, parameter.kind)
        if parameter.default is REQUIRED:
            advice = IF_MISSING.get(group) if parameter.positional else None
            default = Field(alias=name, description=advice)
        elif parameter.default is UNKNOWN or library:
            default = Field(alias=name, default_factory=lambda: None)
        else:
            default = Field(alias=name, default=parameter.default)
        fields[PREFIX + name] = (kind, default)
    if group == "noise" and not found.more:
        for cause, keys in EXTRA_KEYS.items():
            fields |= {name: (kind, ...) for name, kind in keys.items() if cause in found.parameters}
        for cause, keys in UNUSED_KEYS.items():
            fields |= {name: (kind, ...) for name, kind in keys.items() if cause not in found.parameters}
    made: type[Section] = create_model(base.__name__, __base__=base, **fields)
    if found.more:
        made = type(base.__name__, (made,), {"model_config": {**base.model_config, "extra": "allow"}})
    return made


def keys_of(schema: type[Section]) -> list[str]:
    """The keys of a section, as users type them."""
    return [field.alias or name for name, field in schema.model_fields.items()]


def fill(container: dict[str, Any]) -> None:
    """Fill in the defaults of constructors, so that the configuration describes the whole run.

    Defaults of torch stay out, as they belong to its version, and so do those of an unknown `_target_`.
    """
    nodes = [(group, container.get(group)) for group in GROUPS]
    nodes += [("source", node_at(container, key)) for key in SOURCES]
    for group, node in nodes:
        if not isinstance(node, dict):
            continue
        try:
            schema = schema_of(group, node)
        except ConfigError:
            continue
        for name, field in schema.model_fields.items():
            sets = name.startswith(PREFIX) or field.default is not None  # a section's null sets nothing
            if sets and not field.is_required() and field.default_factory is None:
                node.setdefault(field.alias or name, field.default)
