"""Finished runs found on disk, each loaded once, and their groups over seeds and noise draws."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from slnlab.config.identity import digest, flat_identity
from slnlab.errors import DataError
from slnlab.record.metrics import read_metrics
from slnlab.record.result import Result, ResultRow
from slnlab.record.run_directory import RunDirectory
from slnlab.tables.settings import as_typed, differing_keys, short_names, without_followers
from slnlab.text.messages import quoted

METHODS_FIRST, METHODS_LAST = ("ce",), ("sln", "sln_mo_lc")
"""Order of the paper's tables: the baseline, other methods, stochastic label noise."""


@dataclass(frozen=True)
class FinishedRun:
    """A finished run."""

    directory: RunDirectory
    result: Result
    configuration: str
    """Digest of the configuration without its seeds; see `find_runs`. Averages cover equal ones."""

    @cached_property
    def noise(self) -> str:
        """The name of the noise. Labels from a file, or by a matrix, also have its name, e.g. `csv cifar10_sym0.4`."""
        name = self.result.noise
        if "path" not in self.result.identity.get("noise", {}) or name not in ("csv", "transition"):
            return name
        try:
            path = yaml.safe_load(self.directory.config.read_text(encoding="utf-8"))["noise"]["path"]
            return f"{name} {Path(path).stem}"
        except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
            return name

    @property
    def draw(self) -> int | None:
        """The seed of the label noise; None if its labels are not drawn (from a file, instance-dependent, clean)."""
        return _draw(self.result)

    @property
    def pair(self) -> tuple[int, str | int | None]:
        """(seed, noisy labels). Runs of two configurations with equal pairs differ only in the configuration."""
        return self.result.seed, self.result.label_noise.get("hash", self.draw)

    def typed(self) -> set[str]:
        """The keys and groups on its command line; empty if `overrides.yaml` cannot be read."""
        try:
            overrides = yaml.safe_load(self.directory.overrides.read_text(encoding="utf-8")) or []
            return {override.split("=", 1)[0].lstrip("+~") for override in overrides}
        except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError):
            return set()

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
    """The runs of one configuration, ordered by seed and noise draw."""

    runs: tuple[FinishedRun, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    """Keys and values that distinguish the group from others with the same title."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Key → its short name, where it has one."""

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
        """The seeds of the runs, ascending, each once."""
        return sorted({run.result.seed for run in self.runs})

    @property
    def draws(self) -> list[int]:
        """The seeds of the label noise, ascending, each once; empty if the labels are not drawn."""
        return sorted({run.draw for run in self.runs if run.draw is not None})

    @property
    def noise(self) -> str:
        """The noise with its rate, e.g. `sym 0.4`."""
        name, rate = self.runs[0].noise, self.first.noise_rate
        return f"{name} {rate:g}" if rate else name

    @property
    def setting(self) -> str:
        """The settings as text, e.g. `sigma=0.5`; empty if no other group has the same title."""
        return ", ".join(f"{self.names.get(key, key)}={as_typed(value)}" for key, value in self.settings.items())

    @property
    def full_setting(self) -> str:
        """The settings by their dotted keys, e.g. `sln.sigma=0.5`."""
        return ", ".join(f"{key}={as_typed(value)}" for key, value in self.settings.items())


@dataclass(frozen=True)
class Found:
    """The runs found below some directories."""

    runs: list[FinishedRun]
    unfinished: list[Path]
    """Run directories without a result (stopped, failed, still running), except those pruned by a study."""
    left_out: list[str]
    """Results that are not counted, each with the reason."""
    repeated: list[str] = field(default_factory=list)
    """Runs that repeat another one: their noise seed draws nothing, or they were made twice. They count once."""
    code_changed: list[str] = field(default_factory=list)
    """Configurations whose runs were trained with different versions of the user's own code."""
    trials: int = 0
    """Number of a study's runs that the tables leave out; see `slnlab.tables.selection.tested`."""

    def remarks(self) -> list[str]:
        """Lines about runs that a table does not show."""
        lines = [f"left out: {what}" for what in self.left_out]
        lines += [f"counted once: {what}" for what in self.repeated]
        lines += [f"not of one version: {what}" for what in self.code_changed]
        if self.trials:
            lines.append(f"not shown: {self.trials} runs without a test, trials of a study; --where data.test=false")
        if self.unfinished:
            lines.append(f"{len(self.unfinished)} unfinished: {', '.join(map(str, self.unfinished))}")
        return lines


def find_runs(paths: Sequence[Path]) -> Found:
    """Load every `result.json` at or below `paths`.

    Unreadable results are left out. A second, different result of the same configuration and seeds is left out too:
    the first counts, in the order of `paths` and then of names. A run with the same numbers is the same run.

    Runs are of one configuration if they differ only in `seed` and `noise.seed`, and in what follows from these.

    Hidden folders (Hydra's) and `wandb` are not searched. Links to directories are not followed.

    Args:
        paths: files or directories.

    Raises:
        DataError: a path does not exist, or no finished run was found.
    """
    results, unfinished = _searched(paths)
    loaded, left_out = {}, []
    for file in results:
        try:
            loaded[file] = Result.load(file)
        except DataError as error:
            left_out.append(str(error))
    by_name = {f"{each.method}/{each.group}": each for each in loaded.values()}
    runs: dict[tuple[str, int, int | None], FinishedRun] = {}
    repeated = []
    for file, result in loaded.items():
        found = FinishedRun(RunDirectory(file.parent), result, digest(_configuration(result, by_name)))
        counted = runs.setdefault((found.configuration, result.seed, found.draw), found)
        if counted.result.group != result.group and counted.pair == found.pair:
            repeated.append(
                f"{file.parent}: has the seed and the labels of {counted.directory.path}; noise.seed draws nothing here"
            )
        elif counted.result.rows == result.rows and counted.result != result:
            repeated.append(f"{file.parent}: repeats the numbers of {counted.directory.path}")
        elif counted.result != result:
            left_out.append(f"{file}: another result of the run in {counted.directory.path}, which counts instead")
    if not runs:
        where = ", ".join(map(str, paths))
        many = f"{len(unfinished)} unfinished run director{'y' if len(unfinished) == 1 else 'ies'}"
        raise DataError("\n  ".join([f"no finished run in {where}; {many} there", *left_out]))
    return Found(list(runs.values()), unfinished, left_out, repeated, list(_code_changed(runs.values())))


def _code_changed(runs: Iterable[FinishedRun]) -> Iterator[str]:
    """A line for each configuration whose runs had different versions of the user's code, or a run that had two."""
    for same in _by_configuration(runs):
        versions: dict[str, set[str]] = defaultdict(set)
        codes = [code for run in same if (code := run.result.environment.get("user_code")) is not None]
        for code in codes:
            for module in set().union(*codes):
                versions[module] |= {*code.get(module, "none").split()}
        if changed := quoted([module for module, digests in versions.items() if len(digests) > 1]):
            group = Group(tuple(same))
            yield f"{group.first.data}, {group.noise}, {group.first.method}: {changed} changed between or in these runs"


def _searched(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The files of results and the unfinished run directories at or below `paths`, each once, as given."""
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
    return list(results.values()), list(unfinished.values())


def _draw(result: Result) -> int | None:
    draw: int | None = result.label_noise.get("seed", result.identity.get("noise", {}).get("seed"))
    return draw


def _configuration(result: Result, by_name: Mapping[str, Result]) -> dict[str, Any]:
    """The identity without its seeds, and without what differs between noise draws for their sake.

    A record that another run reads (`noise=run`) counts by its noise, not by its labels. A source run (`init.from`)
    counts by its own configuration, if one of its runs is found; otherwise each noise draw remains a configuration.
    """
    made = deepcopy(result.identity)
    del made["seed"]
    noise = made.get("noise", {})
    noise.pop("seed", None)
    if noise.get("name") == "run":
        noise["path"] = {key: result.label_noise.get(key) for key in ("name", "rate", "donor_source", "options")}
    names = made.get("init", {}).get("from", [])
    for place, name in enumerate(names):
        source, _, seed = name.rpartition("/seed")
        if source in by_name and seed.isdigit():
            inner = by_name[source]
            draws = _draw(inner), _draw(result)
            apart = draws[0] - draws[1] if None not in draws else None  # type: ignore[operator]
            names[place] = [_configuration(inner, by_name), int(seed) - result.seed, apart]
        elif seed.isdigit():
            names[place] = [source, int(seed) - result.seed]
    return made


def group_runs(runs: Iterable[FinishedRun]) -> list[Group]:
    """Group the runs that differ only in their seeds, ordered by data, noise, method (as in the paper) and settings."""
    groups = [Group(tuple(sorted(same, key=_seeds))) for same in _by_configuration(runs)]
    settings = [_settings(group, groups) for group in groups]
    names = short_names({key for setting in settings for key in setting})
    return sorted((Group(g.runs, setting, names) for g, setting in zip(groups, settings, strict=True)), key=_order)


def _by_configuration(runs: Iterable[FinishedRun]) -> Iterable[list[FinishedRun]]:
    found: dict[str, list[FinishedRun]] = defaultdict(list)
    for run in runs:
        found[run.configuration].append(run)
    return found.values()


def _seeds(run: FinishedRun) -> tuple[int, int]:
    return run.result.seed, -1 if run.draw is None else run.draw


def _settings(group: Group, groups: Sequence[Group]) -> dict[str, Any]:
    def names(other: Group) -> set[tuple[str, str, str]]:
        return {(other.first.data, other.noise, row.title) for row in other.rows.values()}

    rivals = [other for other in groups if other is not group and names(other) & names(group)]
    if not rivals:  # a title does not say which loss was typed
        loss = flat_identity(group.first.identity).get("loss.name")
        return {"loss.name": loss} if "loss" in group.runs[0].typed() else {}
    mine, *others = (flat_identity(each.first.identity) for each in (group, *rivals))
    keys = set().union(*(differing_keys(mine, other) for other in others))
    if len(keys) > 1:
        typed = set().union(*(each.runs[0].typed() for each in (group, *rivals)))
        keys = without_followers(keys, [mine, *others], typed)
    settings = {key: mine.get(key, "unset") for key in sorted(keys)}
    if settings.get("data.labels") and (counts := group.first.label_noise.get("corrections")):
        words = [f"{count} {what.replace('_', ' ')}" for what, count in counts.items() if count]
        settings["data.labels"] = f"{settings['data.labels'][:4]} ({', '.join(words)})"  # a hash alone says little
    return settings


def _order(group: Group) -> tuple[Any, ...]:
    method = group.first.method
    rank = METHODS_LAST.index(method) + 1 if method in METHODS_LAST else -1 if method in METHODS_FIRST else 0
    values = [
        (not isinstance(v, (int, float)), v if isinstance(v, (int, float)) else 0, as_typed(v))
        for v in group.settings.values()
    ]
    return (group.first.data, group.runs[0].noise, group.first.noise_rate, rank, method, values, group.first.group)
