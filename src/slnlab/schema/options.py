"""The schema of an option: the keys that its group has, and those that its constructor takes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, Field, create_model

from slnlab.errors import ConfigError
from slnlab.schema.constructors import REQUIRED, UNKNOWN, Constructor, class_variable, constructor
from slnlab.schema.kinds import (
    Betas,
    Count,
    ExistingPath,
    NonNegative,
    NothingDrawn,
    Positive,
    Rate,
    Section,
    unused,
)
from slnlab.schema.sections import GROUPS, SOURCES, Source

SUPPLIED = {
    "method": {
        *("optimizer", "scheduler", "seed", "clip_norm", "class_losses", "sigma", "reset_optimizer_each_epoch"),
        *("mixup", "sam", "sam_decay_in_ascent", "sam_decay_in_step"),
    },
    "noise": {"labels", "images", "num_classes", "num_train", "generator", "num_donors", "classes", "paths"},
    "data": {"noise", "seed"},
    "logger": {"group", "title", "about", "config"},
}
"""Parameters that slnlab passes by name: they are no keys of the group."""

OWN = "key_"
"""Before the name of a constructor's key, whose alias it is: `copy` and `json` are names of pydantic's."""

LEADING = {"loss": 1, "optimizer": 1, "scheduler": 1, "logger": 1}
"""How many parameters slnlab passes by place; of a method one for each of its networks."""


def _needed(donor: dict[str, Any] | None) -> dict[str, Any]:
    if not donor:
        raise ValueError("open-set noise takes its images from another data set, and this one's preset names none")
    return donor


KNOWN_BETTER: dict[str, dict[str, Any]] = {
    "noise": {"path": ExistingPath, "class_map": Any, "probabilities": ExistingPath | None},
    "optimizer": {"momentum": Rate, "weight_decay": NonNegative, "betas": Betas},
    "scheduler": {"milestones": list[Count], "gamma": Positive, "T_max": Count, "eta_min": NonNegative},
}
"""Types of keys whose constructor belongs to a library, or takes something else than the configuration holds."""

ASKED_FOR: dict[str, dict[str, Any]] = {
    "num_donors": {"donor": Annotated[dict[str, Any] | None, AfterValidator(_needed)]},
    "probabilities": {"clean_run": list[str]},
}
"""Parameters of noise functions, and the keys that their option then has beside them."""

NOT_ASKED_FOR: dict[str, dict[str, Any]] = {
    "generator": {"seed": NothingDrawn},
    "rate": {"rate": Annotated[float, unused("this noise takes no rate; leave it at 0")]},
}
"""Parameters that a noise function may do without, and the keys that then have no use."""


def schema_of(group: str, node: Any) -> type[Section]:
    """The schema of one option of a group; `source` is the group of data sources.

    Raises:
        ConfigError: its `_target_` cannot be found.
    """
    base = GROUPS.get(group, Source)
    target = node.get("_target_") if isinstance(node, Mapping) else None
    if not isinstance(target, str):
        return base
    found = constructor(target)
    if found is None:
        return type(base.__name__, (base,), {"model_config": {**base.model_config, "extra": "allow"}})
    leading = len(_networks(target)) if group == "method" else LEADING.get(group, 0)
    return _schema(group, base, found, leading, library=target.startswith("torch."))


@cache
def _schema(group: str, base: type[Section], found: Constructor, leading: int, library: bool) -> type[Section]:
    by_place = [name for name, parameter in found.parameters.items() if parameter.positional][:leading]
    fields: dict[str, Any] = {}
    for name, parameter in found.parameters.items():
        if name in SUPPLIED.get(group, ()) or name in by_place or name in keys_of(base):
            continue
        kind = KNOWN_BETTER.get(group, {}).get(name, parameter.kind)
        if parameter.default is REQUIRED:
            default = Field(alias=name)
        elif parameter.default is UNKNOWN or library:
            default = Field(alias=name, default_factory=lambda: None)
        else:
            default = Field(alias=name, default=parameter.default)
        fields[OWN + name] = (kind, default)
    if group == "noise" and not found.more:
        for asked, keys in ASKED_FOR.items():
            fields |= {name: (kind, ...) for name, kind in keys.items() if asked in found.parameters}
        for asked, keys in NOT_ASKED_FOR.items():
            fields |= {name: (kind, ...) for name, kind in keys.items() if asked not in found.parameters}
    made: type[Section] = create_model(base.__name__, __base__=base, **fields)
    if found.more:
        made = type(base.__name__, (made,), {"model_config": {**base.model_config, "extra": "allow"}})
    return made


def keys_of(schema: type[Section]) -> list[str]:
    """The keys of a section, as they are typed."""
    return [field.alias or name for name, field in schema.model_fields.items()]


def fill(container: dict[str, Any]) -> None:
    """Put the defaults of constructors where the configuration does not say otherwise, so that it says all of a run.

    Not those of torch, which are those of its version, and not of a `_target_` that cannot be found.
    """
    nodes = [(group, container.get(group)) for group in GROUPS]
    for section, _, key in (dotted.partition(".") for dotted in SOURCES):
        parent = container.get(section)
        nodes.append(("source", parent.get(key) if isinstance(parent, dict) else None))
    for group, node in nodes:
        if not isinstance(node, dict):
            continue
        try:
            schema = schema_of(group, node)
        except ConfigError:
            continue
        for name, field in schema.model_fields.items():
            told = name.startswith(OWN) or field.default is not None  # a section's null says nothing
            if told and not field.is_required() and field.default_factory is None:
                node.setdefault(field.alias or name, field.default)


class RowTitle(NamedTuple):
    """How tables name a row.

    Args:
        title: as shown.
        secondary: shown on request only: a network beside the model that it serves.
    """

    title: str
    secondary: bool = False


SECONDARY = " (network)"
"""Ends the title of a secondary row."""


class Law(NamedTuple):
    """What a method's class says of its configuration, and its option in YAML may add.

    Args:
        rows: the rows that the method has in tables, by name.
        networks: names of the networks that it trains.
        refuses: keys that must be off (0, false, null), and why.
        needs: keys that must be on, and why.
        fixed: keys that have one value by the method's definition: with another one it would be another method.
        takes: parameters of the class; None: it takes whatever it is given.
    """

    rows: dict[str, RowTitle]
    networks: tuple[str, ...]
    refuses: dict[str, str]
    needs: dict[str, str]
    fixed: dict[str, Any]
    takes: frozenset[str] | None


COMPOSED = {"sln.sigma": "sigma", "mixup.alpha": "mixup", "sam.rho": "sam"}
"""Keys that switch on what goes beside a method's own objective, and the parameter by which its class takes it."""


def law(method: Mapping[str, Any]) -> Law:
    """That of a method, from the node `method` of a configuration."""
    target, found = str(method["_target_"]), constructor(str(method["_target_"]))
    takes = None if found is None or found.more else frozenset(found.parameters)
    said = {
        key: {**(class_variable(target, key) or {}), **(method.get(key) or {})} for key in ("refuses", "needs", "fixed")
    }
    refuses = dict(said["refuses"])
    for key, parameter in COMPOSED.items():
        if takes is not None and parameter not in takes:
            refuses.setdefault(key, f"method={method['name']} does not take it; leave it at 0")
    rows = method.get("rows") or class_variable(target, "rows") or {"network": "{}", "momentum": "{}-MO"}
    titles = {name: str(row).replace("{}", str(method["title"])) for name, row in rows.items()}
    named = {name: RowTitle(title, title.endswith(SECONDARY)) for name, title in titles.items()}
    return Law(named, _networks(target), refuses, said["needs"], said["fixed"], takes)


def _networks(target: str) -> tuple[str, ...]:
    return tuple(class_variable(target, "network_names") or ("network",))
