"""What makes a run this run: what of its configuration can change its result, and the directory named by it."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from slnlab.config import contents

NOT_IDENTITY = (
    "hydra",
    "logger",
    "force",
    "runs_dir",
    "preset",  # what is taken from it stands where it is used
    "trainer.progress",
    # The machine may change the last bits; it is recorded in the result, and a run may go on on another one.
    "trainer.accelerator",
    "trainer.threads",
    "trainer.compile",
    "trainer.profile",
    "trainer.checkpoint_every_steps",
    "data.source.download",
    "data.source.verify",
    "data.workers",
    "data.unreadable",  # without the files that it leaves out it is the same folder
    "data.source.unreadable",
    "data.read_timeout",
    "data.mixed_depths",  # says what is refused
    "method.title",
    "method.rows",
    "method.estimate_from",  # made from the rest; a matrix of the user's own is method.transition
    "method.refuses",
    "method.needs",
    "method.fixed",
    "noise.like",  # as preset: what is taken for it stands where it is used
    "noise.donor.download",
    "noise.donor.verify",
)
"""Keys that cannot change a result, so that two runs that differ only in them are the same run."""

SWITCHES = {"momentum": "enabled", "correction": "enabled", "mixup": "alpha", "sam": "rho"}
"""Sections, and the key that switches each on: while it is off, how the thing would be done does not count."""


def identity(container: Mapping[str, Any], sources: Sequence[str] = ()) -> dict[str, Any]:
    """What makes a run this run: its configuration without what cannot change its result, as JSON has it.

    Args:
        container: resolved, with the digests of its files (`contents`): their contents count, not where they are.
        sources: names of the runs that it starts from.
    """
    made = copy.deepcopy(dict(container))
    _put_contents(made, made.pop("contents"))
    for dotted in NOT_IDENTITY:
        _drop(made, dotted)
    for section, switch in SWITCHES.items():
        if not made[section][switch]:
            made[section] = {switch: made[section][switch]}
    init = made.pop("init")
    if sources:
        made["init"] = {"from": list(sources), "weights": init["weights"]}
    as_stored: dict[str, Any] = json.loads(json.dumps(made))
    return as_stored


def _put_contents(container: dict[str, Any], digests: dict[str, str]) -> None:
    """Put the digests in the place of the files."""
    for key, found in digests.items():
        section, _, name = key.rpartition(".")
        node = contents.node_at(container, section)
        if key in contents.SOURCES:
            node[name] = {k: v for k, v in node[name].items() if k not in contents.HOW} | {"contents": found}
        elif node is not None:
            node[name] = found
    for key in contents.SOURCES:  # of one that lists no files, where they are is all that is known
        source = contents.node_at(container, key)
        if isinstance(source, dict) and isinstance(source.get("root"), str) and key not in digests:
            source["root"] = os.path.abspath(os.path.expanduser(source["root"]))


def _drop(container: dict[str, Any], dotted: str) -> None:
    section, _, key = dotted.rpartition(".")
    node = contents.node_at(container, section) if section else container
    if isinstance(node, dict):
        node.pop(key, None)


def digest(container: Any) -> str:
    """Ten hex digits of SHA-256 over canonical JSON."""
    return hashlib.sha256(json.dumps(_canonical(container), sort_keys=True).encode()).hexdigest()[:10]


def _canonical(node: Any) -> Any:
    """The same with 1 for 1.0, so that `sln.sigma=1` and `sln.sigma=1.0` are one run."""
    if isinstance(node, dict):
        return {key: _canonical(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_canonical(value) for value in node]
    return int(node) if isinstance(node, float) and node.is_integer() else node


def group_of(identity: Mapping[str, Any]) -> str:
    """Digest of an identity without its seed."""
    without_seed = copy.deepcopy(dict(identity))
    seed = without_seed.pop("seed")
    if "init" in without_seed:  # runs of other seeds start from runs of other seeds, as far apart
        without_seed["init"]["from"] = [_relative(name, seed) for name in without_seed["init"]["from"]]
    return digest(without_seed)


def _relative(name: str, seed: int) -> str:
    """`sln/1a2b3c4d5e/seed7` from a run of seed 5 is `sln/1a2b3c4d5e/seed+2`."""
    group, _, number = name.rpartition("/seed")
    return f"{group}/seed{int(number) - seed:+d}" if number.isdigit() else name
