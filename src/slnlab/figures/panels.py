"""The runs of a figure: found, grouped over seeds and noise draws, spread over panels, and averaged."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt

from slnlab.config.identity import flat_identity
from slnlab.errors import DataError
from slnlab.tables.runs import FinishedRun, Group, find_runs, group_runs
from slnlab.tables.selection import parse, select, select_unfinished
from slnlab.tables.settings import differing_keys

Columns = dict[str, npt.NDArray[np.float64]]
"""Metrics of a group by name, each (runs, epochs); accuracies in percent."""


def found_runs(paths: Sequence[Path], where: Sequence[str]) -> tuple[list[FinishedRun], list[str]]:
    """The finished runs at or below `paths`, and remarks on runs that a figure cannot show.

    Args:
        paths: directories to search, or files.
        where: conditions on the runs, see `slnlab.tables.selection`.

    Raises:
        ConfigError: a condition cannot be read.
        DataError: a path does not exist, or no finished run (that fits) was found.
    """
    found, conditions = find_runs(paths), parse(where)
    unfinished = select_unfinished(found.unfinished, conditions)
    return select(found.runs, conditions), replace(found, unfinished=unfinished).remarks()


def found_groups(paths: Sequence[Path], where: Sequence[str] = ()) -> tuple[list[Group], list[str]]:
    """The runs of `found_runs`, grouped over seeds, and its remarks."""
    found, remarks = found_runs(paths, where)
    return group_runs(found), remarks


def panels(groups: Sequence[Group]) -> list[list[Group]]:
    """The groups of each data set and noise, which share a panel. The groups keep their order."""
    return [list(same) for _, same in groupby(groups, key=lambda group: (group.first.data, group.noise))]


def place(group: Group) -> dict[str, object]:
    """The columns of a CSV that name the panel of a group."""
    return {"data": group.first.data, "noise": group.runs[0].noise, "noise_rate": group.first.noise_rate}


def refuse_other_differences(groups: Sequence[Group], *shown: str) -> None:
    """Refuse groups of one panel that differ in more than the figure shows.

    Args:
        groups: of one panel.
        shown: keys (`sln.sigma`) and sections (`method.`) that may differ, beside the seeds.

    Raises:
        DataError: names the other keys.
    """
    first = groups[0]
    keys = set().union(*(other_differences(first, other, *shown) for other in groups[1:]))
    if keys:
        raise DataError(
            f"{first.first.data}, {first.noise}: the runs differ not only in {', '.join(shown)}, but also in "
            f"{', '.join(sorted(keys))}; give the directories of one sweep"
        )


def other_differences(one: Group, other: Group, *shown: str) -> set[str]:
    """The keys in which two groups differ, without the seeds and without keys that begin with one of `shown`."""
    keys = differing_keys(flat_identity(one.first.identity), flat_identity(other.first.identity))
    return {key for key in keys if not key.startswith(shown)}


def main_row(group: Group) -> str:
    """The name of the main row of a group's results: the first that is not secondary."""
    return next((name for name, row in group.rows.items() if not row.secondary), next(iter(group.rows)))


def epochs(group: Group) -> Columns:
    """The metrics that all runs of a group have; NaN after an epoch without evaluation.

    Raises:
        DataError: a run has no metrics, or its epochs differ from the first run's.
    """
    tables = [run.metrics() for run in group.runs]
    first, *others = ([row.get("epoch") for row in rows] for rows in tables)
    for run, found in zip(group.runs[1:], others, strict=True):
        if found != first:
            raise DataError(f"{run.directory.metrics}: has other epochs than {group.runs[0].directory.metrics}")
    return {
        key: np.array([[row.get(key, math.nan) for row in rows] for rows in tables])
        * (100 if key.endswith("accuracy") else 1)
        for key in tables[0][-1]  # the last epoch is always evaluated
        if all(key in rows[-1] for rows in tables)
    }


def spread(values: npt.NDArray[np.float64]) -> dict[str, object]:
    """The columns `mean` and `std` of a CSV: over runs (runs,); the sample standard deviation is empty for one run."""
    return {"mean": float(values.mean()), "std": float(values.std(ddof=1)) if len(values) > 1 else None}


def lines_by_epoch(group: Group, columns: Columns, key: str, label: str) -> Iterator[dict[str, object]]:
    """Yield the lines of a CSV for one measure of a group: mean and spread over runs, per evaluated epoch.

    Args:
        group: its runs.
        columns: from `epochs`.
        key: of the measure; an accuracy in percent, or a loss in nats. Without the measure there is no line.
        label: of the row.
    """
    for number, values in enumerate(columns[key].T if key in columns else ()):
        if np.isfinite(values).all():
            yield {
                **place(group),
                "label": label,
                "setting": group.setting,
                "runs": len(values),
                "epoch": int(columns["epoch"][0, number]),
                "measure": f"{key}_percent" if key.endswith("accuracy") else f"{key}_nats",
                **spread(values),
            }
