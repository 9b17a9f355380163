"""The identity of a run: the part of its configuration that can change its result. It names the run's directory."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from slnlab.config.container import flat
from slnlab.config.contents import PLACE_KEYS
from slnlab.schema.composable import COMPOSABLE
from slnlab.schema.sections import SOURCES, node_at

NOT_IDENTITY = (
    "logger",
    "force",
    "runs_dir",
    "preset",  # its used values stand at their keys
    "trainer.progress",
    # A GPU draws other numbers than a CPU, and any machine may change the last bits. The result records it, and a run
    # may resume on another machine.
    "trainer.accelerator",
    "trainer.threads",
    "trainer.compile",
    "trainer.profile",
    "trainer.checkpoint_every_steps",
    "data.source.download",
    "data.source.verify",
    "data.workers",
    "data.unreadable",  # the digest covers the files that are left
    "data.source.unreadable",
    "data.read_timeout",
    "data.mixed_depths",  # decides only on a refusal
    "method.title",
    "method.rows",
    "method.estimate_from",  # follows from the rest; the user's own matrix is method.transition
    "method.start_from",
    "method.refuses",
    "method.needs",
    "method.fixed",
    "noise.like",  # like preset
    "noise.donor.download",
    "noise.donor.verify",
)
"""Keys that cannot change a result. Two runs with other values here are the same run."""

OFF: dict[str, Any] = {
    "data.rotation": 0,
    "data.oversampling": False,
    "data.fold": None,
    "data.threshold": None,
    "data.imbalance": None,
    "data.augment": "crop_flip",
    "data.clean_val": False,
    "data.dropped_features": 0.2,
    "data.source.votes": "majority",
    **{each.switch: 0 for each in COMPOSABLE if not each.in_every_identity},
}
"""Key → the value with which it is no part of an identity. Finished runs lack these keys."""

COUNTS_WITH = {"data.imbalance_kind": "data.imbalance"}
"""Key → the key without which it is no part of an identity either."""


def identity(container: Mapping[str, Any], sources: Sequence[str] = ()) -> dict[str, Any]:
    """The identity of a run: its configuration without keys that cannot change its result, as JSON stores it.

    Args:
        container: the resolved configuration with the digests of its files (`contents`). The digests count, not the
            places of the files.
        sources: names of the runs that it starts from.
    """
    made = copy.deepcopy(dict(container))
    _put_contents(made, made.pop("contents"))
    for dotted in NOT_IDENTITY:
        _drop(made, dotted)
    for dotted, switch in COUNTS_WITH.items():
        if node_at(made, switch) == OFF[switch]:
            _drop(made, dotted)
    for each in COMPOSABLE:
        section, _, key = each.switch.partition(".")
        if not (value := node_at(made, each.switch)):
            made.pop(section, None)
            if each.in_every_identity:
                made[section] = {key: value}
    for dotted, value in OFF.items():
        if node_at(made, dotted) == value:
            _drop(made, dotted)
    init = made.pop("init")
    if sources:
        made["init"] = {"from": list(sources), "weights": init["weights"]}
    as_stored: dict[str, Any] = json.loads(json.dumps(made))
    return as_stored


def flat_identity(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted key → value of an identity, with the values of keys that stand in no identity while they are off."""
    return {**OFF, **flat(dict(identity))}


def _put_contents(container: dict[str, Any], digests: dict[str, str]) -> None:
    """Replace the places of the files by their digests."""
    for key, found in digests.items():
        section, _, name = key.rpartition(".")
        node = node_at(container, section)
        if key in SOURCES:
            node[name] = {k: v for k, v in node[name].items() if k not in PLACE_KEYS} | {"contents": found}
        elif node is not None:
            node[name] = found
    for key in SOURCES:  # without a digest the place is all that is known
        source = node_at(container, key)
        if isinstance(source, dict) and isinstance(source.get("root"), str) and key not in digests:
            source["root"] = os.path.abspath(os.path.expanduser(source["root"]))


def _drop(container: dict[str, Any], dotted: str) -> None:
    section, _, key = dotted.rpartition(".")
    node = node_at(container, section) if section else container
    if isinstance(node, dict):
        node.pop(key, None)


def digest(container: Any) -> str:
    """The first ten hex digits of SHA-256 over canonical JSON."""
    return hashlib.sha256(json.dumps(_canonical(container), sort_keys=True).encode()).hexdigest()[:10]


def _canonical(node: Any) -> Any:
    """The node with whole floats as integers, so that `sln.sigma=1` and `sln.sigma=1.0` are one run."""
    if isinstance(node, dict):
        return {key: _canonical(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_canonical(value) for value in node]
    return int(node) if isinstance(node, float) and node.is_integer() else node


def group_of(identity: Mapping[str, Any]) -> str:
    """The digest of an identity without its seed."""
    without_seed = copy.deepcopy(dict(identity))
    seed = without_seed.pop("seed")
    if "init" in without_seed:  # each seed has its own source runs, at the same distance
        without_seed["init"]["from"] = [_relative(name, seed) for name in without_seed["init"]["from"]]
    return digest(without_seed)


def noise_title(container: Mapping[str, Any]) -> str:
    """The noise of a configuration or an identity as titles show it: `sym 0.4`."""
    noise = container["noise"]
    return f"{noise['name']} {noise['rate']}" if noise["rate"] else str(noise["name"])


def subdir_of(container: Mapping[str, Any], group: str) -> str:
    """The directory of a run below `runs_dir`, by its configuration or its identity.

    Args:
        container: the configuration or the identity.
        group: digest of the identity without its seed.
    """
    noise = noise_title(container).replace(" ", "-")
    return f"{container['data']['name']}/{noise}/{container['method']['name']}/{group}/seed{container['seed']}"


def _relative(name: str, seed: int) -> str:
    """The name of a source run relative to a seed: `sln/1a2b3c4d5e/seed7` for seed 5 is `sln/1a2b3c4d5e/seed+2`."""
    group, _, number = name.rpartition("/seed")
    return f"{group}/seed{int(number) - seed:+d}" if number.isdigit() else name
