"""The rules of a method for its configuration: what it refuses, needs and fixes, and the rows of its results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from slnlab.schema.composable import COMPOSABLE
from slnlab.schema.constructors import class_variable, constructor


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


OF_BEST_EPOCH = " (best epoch)"
"""Ends the title of the row `best`, unless the method's YAML names it."""


class Law(NamedTuple):
    """The rules of a method for its configuration, from its class and its option in YAML.

    Args:
        rows: key of a row → its title in tables.
        networks: names of its networks.
        refuses: keys that must be off (0, false, null), each with the reason.
        needs: keys that must be on, each with the reason.
        fixed: keys with the one value of the method's definition.
        takes: parameters of the class; None if it takes any.
        weighs_samples: True if its loss counts samples by their weight.
    """

    rows: dict[str, RowTitle]
    networks: tuple[str, ...]
    refuses: dict[str, str]
    needs: dict[str, str]
    fixed: dict[str, Any]
    takes: frozenset[str] | None
    weighs_samples: bool


def law(method: Mapping[str, Any]) -> Law:
    """The law of a method, from the node `method` of a configuration."""
    target, found = str(method["_target_"]), constructor(str(method["_target_"]))
    takes = None if found is None or found.more else frozenset(found.parameters)
    stated = {
        key: {**(class_variable(target, key) or {}), **(method.get(key) or {})} for key in ("refuses", "needs", "fixed")
    }
    refuses = dict(stated["refuses"])
    for each in COMPOSABLE:
        if takes is not None and each.parameter not in {None, *takes}:
            refuses.setdefault(each.switch, f"method={method['name']} does not take it; leave it at 0")
    rows = {**(method.get("rows") or class_variable(target, "rows") or {})}
    rows.setdefault("best", "{}" + OF_BEST_EPOCH)
    titles = {name: str(row).replace("{}", str(method["title"])) for name, row in rows.items()}
    named = {name: RowTitle(title, title.endswith(SECONDARY)) for name, title in titles.items()}
    weighs = bool(class_variable(target, "weighs_samples", unless=("step", "loss", "batch_loss")))
    return Law(named, network_names(target), refuses, stated["needs"], stated["fixed"], takes, weighs)


def network_names(target: str) -> tuple[str, ...]:
    """The names of the networks of a method's class."""
    return tuple(class_variable(target, "network_names") or ("network",))
