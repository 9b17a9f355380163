"""What distinguishes configurations: the keys in which they differ, under short names."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

SEEDS = frozenset({"seed", "noise.seed"})
"""Keys in which the runs of one configuration may differ."""


def differing_keys(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    """The keys in which two flat configurations differ, without the seeds.

    If the options of a group differ (`optimizer.name`), its target and the keys of only one option are left out, as
    they follow from the option.
    """
    both = one.keys() & other.keys()
    keys = {k for k in one.keys() | other.keys() if k not in both or one[k] != other[k]} - SEEDS
    sections = tuple(key.removesuffix("name") for key in keys & both if key.endswith(".name"))
    implied = {k for k in keys if k.startswith(sections) and (k.endswith("._target_") or k not in both)}
    return keys - implied


def without_followers(keys: Collection[str], configurations: Sequence[Mapping[str, Any]], typed: set[str]) -> set[str]:
    """The keys without those that only follow from a typed one, as a decay that follows from the number of epochs.

    A key follows if nobody typed it and it splits the configurations exactly as a typed key does.

    Args:
        keys: in which the configurations differ.
        configurations: flat.
        typed: keys and groups on the command lines of the runs.
    """

    def split(key: str) -> tuple[int, ...]:
        values = [as_typed(configuration.get(key, "unset")) for configuration in configurations]
        return tuple(values.index(value) for value in values)

    mine = {key for key in keys if key in typed or key.removesuffix(".name") in typed}
    explained = {split(key) for key in mine}
    return mine | {key for key in set(keys) - mine if split(key) not in explained}


def short_names(keys: Collection[str]) -> dict[str, str]:
    """The shortest ends of dotted keys that name one key each; an option or a switch has the name of its section.

    >>> short_names(["sln.sigma", "optimizer.lr", "optimizer.name", "noise.rate", "method.rate"])["noise.rate"]
    'noise.rate'
    """
    names = {}
    typed = {key: key.removesuffix(".name").removesuffix(".enabled") for key in keys}
    for key, whole in typed.items():
        parts = whole.split(".")
        ends = [".".join(parts[start:]) for start in range(len(parts) - 1, -1, -1)]
        alone = (end for end in ends if sum(f".{other}".endswith(f".{end}") for other in typed.values()) == 1)
        names[key] = next(alone, key)
    return names


def as_typed(value: Any) -> str:
    """A value as on the command line: 1 for 1.0, null, true, strings without quotes."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, str) else json.dumps(value)
