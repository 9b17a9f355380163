"""The choice of finished runs by their configuration: `noise=sym`, `sln.sigma=1`, `seed=0,1`."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Transformer
from hydra.errors import HydraException

from slnlab.config.identity import flat_identity
from slnlab.errors import ConfigError, DataError
from slnlab.record.run_directory import RunDirectory
from slnlab.tables.runs import FinishedRun
from slnlab.tables.settings import as_typed

Conditions = Mapping[str, Sequence[str]]
"""Key → the allowed values, as typed on a command line."""


def parse(texts: Sequence[str]) -> Conditions:
    """The conditions of `key=value` or `key=value,value`, each as Hydra reads an override. Later ones replace earlier.

    Raises:
        ConfigError: a text is no such override.
    """
    conditions = {}
    for text in texts:
        try:
            (override,) = OverridesParser.create().parse_overrides([text])
            if override.type is None or override.type.name != "CHANGE" or override.is_interval_sweep():
                raise ValueError
            conditions[override.key_or_group] = [as_typed(value) for value in _values(override)]
        except (HydraException, ValueError) as error:
            raise ConfigError(
                f"where {text}: write key=value or key=value,value, e.g. noise=sym or seed=0,1"
            ) from error
    return conditions


def _values(override: Override) -> list[Any]:
    if not override.is_sweep_override():
        return [override.value()]
    if not override.is_discrete_sweep() or "glob(" in str(override.input_line):
        raise ValueError
    return [Override._convert_value(value) for value in override.sweep_iterator(Transformer.identity)]


def select(runs: Sequence[FinishedRun], conditions: Conditions) -> list[FinishedRun]:
    """The runs whose configuration has one of the allowed values for every key.

    A key is one of the run's identity, e.g. `sln.sigma`, or a group, e.g. `noise`. A run without the key has
    the value `null`: `method.strength=7,null` keeps the methods that have no such key.

    Args:
        runs: at least one.
        conditions: from `parse`.

    Raises:
        ConfigError: no run has such a key.
        DataError: no run is left; the message names the values that exist.
    """
    configurations = [flat_identity(run.result.identity) for run in runs]
    known = {key for each in configurations for key in each}
    typed = {key.removesuffix(".name") for key in known}
    names = {}
    for key in conditions:
        names[key] = next((name for name in (key, f"{key}.name") if name in known), "")
        if not names[key]:
            near = [name for name in sorted(typed) if name.endswith(f".{key}")]
            near += difflib.get_close_matches(key, sorted(typed), n=3)
            hint = f"; did you mean {', '.join(dict.fromkeys(near))}?" if near else ""
            raise ConfigError(f"where {key}: no run has this key{hint}")

    chosen = [run for run, each in zip(runs, configurations, strict=True) if _fits(each, conditions)]
    if not chosen:
        asked = " ".join(f"{key}={','.join(values)}" for key, values in conditions.items())
        raise DataError(f"where {asked}: no finished run fits; there are {_existing(names, configurations)}")
    return chosen


def tested(runs: Sequence[FinishedRun], conditions: Conditions) -> list[FinishedRun]:
    """The runs without a study's trials, which stand in its own table.

    Trials were not tested, and held samples out. A run of the same data, noise, network, method and epochs was tested.

    Args:
        runs: those that fit the conditions.
        conditions: from `parse`. One on `data.test` chooses by itself.
    """
    if "data.test" in conditions:
        return list(runs)

    def kind(run: FinishedRun) -> str:
        """All of the identity that a study leaves alone."""
        same = {key: run.result.identity.get(key, {}) for key in ("data", "noise", "model")}
        data = {key: value for key, value in same["data"].items() if key not in ("test", "noisy_val")}
        noise = {key: value for key, value in same["noise"].items() if key != "seed"}
        kept = [data, noise, same["model"], run.result.method, run.result.noise_rate, run.result.epochs]
        return json.dumps(kept, sort_keys=True, default=str)

    def is_tested(run: FinishedRun) -> bool:
        return any(row.test_accuracy is not None for row in run.result.rows.values())

    kinds = {kind(run) for run in runs if is_tested(run)}
    return [
        run
        for run in runs
        if is_tested(run) or not run.result.identity.get("data", {}).get("noisy_val") or kind(run) not in kinds
    ]


def select_unfinished(directories: Sequence[Path], conditions: Conditions) -> list[Path]:
    """The directories of begun runs that fit, as far as their configuration can be read."""
    chosen = []
    for directory in directories:
        try:
            fits = _fits(flat_identity(RunDirectory(directory).stored_identity()), conditions)
        except DataError:
            fits = True
        if fits:
            chosen.append(directory)
    return chosen


def _fits(configuration: Mapping[str, Any], conditions: Conditions) -> bool:
    return all(
        as_typed(configuration.get(key, configuration.get(f"{key}.name"))) in allowed
        for key, allowed in conditions.items()
    )


def _existing(names: Mapping[str, str], configurations: Sequence[Mapping[str, Any]]) -> str:
    """The values of each key, e.g. `noise=asym,sym and seed=0,1`."""
    texts = []
    for key, name in names.items():
        values = {as_typed(each[name]): each[name] for each in configurations if name in each}
        ordered = map(as_typed, sorted(values.values(), key=_order))
        texts.append(f"{key}={','.join(ordered)}")
    return " and ".join(texts)


def _order(value: Any) -> tuple[bool, float, str]:
    """Numbers by size, then texts."""
    number = isinstance(value, (int, float))
    return not number, value if number else 0, as_typed(value)
