"""Finished runs found on disk, each loaded once, and their groups over seeds."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slnlab.config.container import flat
from slnlab.errors import DataError
from slnlab.record.result import Result, ResultRow, read_metrics
from slnlab.record.run_directory import RunDirectory

METHODS_FIRST, METHODS_LAST = ("ce",), ("sln", "sln_mo_lc")
"""Order of the paper's tables: the baseline, other methods, stochastic label noise."""


@dataclass(frozen=True)
class FinishedRun:
    """A finished run."""

    directory: RunDirectory
    result: Result

    def metrics(self) -> list[dict[str, float]]:
        """The rows of metrics.csv, one per epoch.

        Raises:
            DataError: metrics.csv is missing, empty, or no table of numbers.
        """
        try:
            rows = read_metrics(self.directory.metrics)
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{self.directory.metrics}: cannot be read as metrics ({error})") from error
        if not rows or "epoch" not in rows[0]:
            raise DataError(f"{self.directory.metrics}: holds no epochs")
        return rows


@dataclass(frozen=True)
class Group:
    """The runs of one configuration, ordered by seed."""

    runs: tuple[FinishedRun, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    """Keys and values that distinguish the group from others with the same title."""

    @property
    def first(self) -> Result:
        """The result of the first seed."""
        return self.runs[0].result

    @property
    def rows(self) -> dict[str, ResultRow]:
        """The rows of the first seed; all seeds have the same names and titles."""
        return self.first.rows

    @property
    def seeds(self) -> list[int]:
        """The seeds of the runs, ascending."""
        return [run.result.seed for run in self.runs]

    @property
    def noise(self) -> str:
        """The noise with its rate, e.g. `sym 0.4`."""
        return f"{self.first.noise} {self.first.noise_rate:g}" if self.first.noise_rate else self.first.noise

    @property
    def setting(self) -> str:
        """The settings as text, e.g. `sln.sigma=0.5`; empty if no other group has the same title."""
        return ", ".join(f"{key}={_text(value)}" for key, value in self.settings.items())


@dataclass(frozen=True)
class Found:
    """The runs found below some directories."""

    runs: list[FinishedRun]
    unfinished: list[Path]
    """Run directories without a result (stopped, failed, still running), except those pruned by a study."""
    left_out: list[str]
    """Results that are not counted, each with the reason."""

    def remarks(self) -> list[str]:
        """Lines about runs that a table does not show."""
        lines = [f"left out: {what}" for what in self.left_out]
        if self.unfinished:
            lines.append(f"{len(self.unfinished)} unfinished: {', '.join(map(str, self.unfinished))}")
        return lines


def find_runs(paths: Sequence[Path]) -> Found:
    """Load every `result.json` at or below `paths`.

    Unreadable results are left out. A second, different result of the same configuration and seed is left out too:
    the first counts, in the order of `paths` and then of names. An equal copy is the same run.

    Hidden folders (Hydra's) and `wandb` are not searched. Links to directories are not followed.

    Args:
        paths: files or directories.

    Raises:
        DataError: a path does not exist, or no finished run was found.
    """
    results: dict[Path, Path] = {}  # resolved path → path as given
    unfinished: dict[Path, Path] = {}
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: there is no such file or directory")
        if path.is_file():
            results.setdefault(path.resolve(), path)
        for folder, subfolders, _ in os.walk(path):
            subfolders[:] = sorted(name for name in subfolders if not name.startswith(".") and name != "wandb")
            run = RunDirectory(Path(folder))
            if run.finished:
                results.setdefault(run.result.resolve(), run.result)
            elif run.config.exists() and not run.pruned.exists():
                unfinished.setdefault(run.path.resolve(), run.path)

    runs: dict[tuple[str, int], FinishedRun] = {}
    left_out = []
    for file in results.values():
        try:
            result = Result.load(file)
        except DataError as error:
            left_out.append(str(error))
            continue
        counted = runs.setdefault((result.group, result.seed), FinishedRun(RunDirectory(file.parent), result))
        if counted.result != result:
            left_out.append(f"{file}: another result of the run in {counted.directory.path}, which counts instead")
    if not runs:
        where = ", ".join(map(str, paths))
        many = f"{len(unfinished)} unfinished run director{'y' if len(unfinished) == 1 else 'ies'}"
        raise DataError("\n  ".join([f"no finished run in {where}; {many} there", *left_out]))
    return Found(list(runs.values()), list(unfinished.values()), left_out)


def group_runs(runs: Iterable[FinishedRun]) -> list[Group]:
    """Group the runs that differ only in their seed, ordered by data, noise, method (as in the paper) and settings."""
    by_hash: dict[str, list[FinishedRun]] = defaultdict(list)
    for run in runs:
        by_hash[run.result.group].append(run)
    groups = [Group(tuple(sorted(same, key=lambda run: run.result.seed))) for same in by_hash.values()]
    return sorted((Group(group.runs, _settings(group, groups)) for group in groups), key=_order)


def _settings(group: Group, groups: Sequence[Group]) -> dict[str, Any]:
    def names(other: Group) -> set[tuple[str, str, str]]:
        return {(other.first.data, other.noise, row.title) for row in other.rows.values()}

    mine = flat(group.first.identity)
    keys: set[str] = set()
    for other in groups:
        if other is not group and names(other) & names(group):
            keys |= differing_keys(mine, flat(other.first.identity))
    return {key: mine.get(key, "unset") for key in sorted(keys)}


def differing_keys(one: dict[str, Any], other: dict[str, Any]) -> set[str]:
    """The keys in which two flat configurations differ, without the seed.

    If the options of a group differ (`optimizer.name`), its target and the keys of only one option are left out, as
    they follow from the option.
    """
    both = one.keys() & other.keys()
    keys = {k for k in one.keys() | other.keys() if k not in both or one[k] != other[k]} - {"seed"}
    sections = tuple(key.removesuffix("name") for key in keys & both if key.endswith(".name"))
    implied = {k for k in keys if k.startswith(sections) and (k.endswith("._target_") or k not in both)}
    return keys - implied


def _text(value: Any) -> str:
    """A value as on the command line: 1 for 1.0, null, true, strings without quotes."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, str) else json.dumps(value)


def _order(group: Group) -> tuple[Any, ...]:
    method = group.first.method
    rank = METHODS_LAST.index(method) + 1 if method in METHODS_LAST else -1 if method in METHODS_FIRST else 0
    values = [
        (not isinstance(v, (int, float)), v if isinstance(v, (int, float)) else 0, _text(v))
        for v in group.settings.values()
    ]
    return (group.first.data, group.first.noise, group.first.noise_rate, rank, method, values, group.first.group)
