"""Test accuracy against σ, as in the paper's Fig. 6. A small σ overfits, a large one underfits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from slnlab.config.container import flat
from slnlab.config.identity import digest
from slnlab.errors import DataError
from slnlab.figures.panels import found_runs, panels, place, refuse_other_differences
from slnlab.figures.style import MARKERS, grid, place_legend, save, style, wrapped
from slnlab.tables.runs import FinishedRun, Group, group_runs
from slnlab.tables.settings import SEEDS
from slnlab.tables.table import Row, make_rows

COLOURS = ("#56B4E9", "#0072B2", "#E69F00", "#D55E00", "#009E73", "#CC79A7")
"""Colours of the rows in order. SLN and SLN-MO are blue, as in the curves."""

SWEPT = "sln.sigma"


def figure(runs: Sequence[Path], out: Path, where: Sequence[str] = ()) -> list[str]:
    """Draw test accuracy at the last epoch against σ.

    Each data set and noise has a panel, with the mean over seeds and noise draws, and a band of one sample standard
    deviation to either side.

    Args:
        runs: searched for finished runs. Runs outside a sweep over σ are not drawn.
        out: folder for `sigma.png`, `sigma.svg` and `sigma.csv`, which has a line per σ and row.
        where: conditions on the runs, see `slnlab.tables.selection`.

    Returns:
        Remarks on runs that are not drawn.

    Raises:
        ConfigError: a condition cannot be read.
        DataError: no finished runs with test accuracies differ in σ, runs of one panel differ in more than σ and
            seeds, or a file cannot be written.
    """
    found, remarks = found_runs(runs, where)
    rows = [row for row in make_rows(sweeps(found)) if row.statistics["test_last"]]
    if not rows:
        raise DataError(
            f"no finished runs with test accuracies that differ in sln.sigma in {', '.join(map(str, runs))}"
        )
    with style():
        save(_picture(rows), out, "sigma", [_numbers(row) for row in rows])
    drawn = {run.directory.path for row in rows for run in row.group.runs}
    if missing := len(found) - len(drawn):
        remarks.append(
            f"not drawn: {missing} run{'s' if missing > 1 else ''} without another that differs only in sln.sigma"
        )
    return remarks


def sigma(group: Group) -> float:
    """The σ of a group."""
    return float(group.first.identity["sln"]["sigma"])


def sweeps(runs: Iterable[FinishedRun]) -> list[Group]:
    """Groups that differ in σ from another group and otherwise agree, ordered by data, noise and σ.

    Raises:
        DataError: one data set and noise has two sweeps; names the keys in which they differ.
    """
    by_rest: dict[str, list[Group]] = defaultdict(list)
    for group in group_runs(runs):
        rest = {key: value for key, value in flat(group.first.identity).items() if key not in {SWEPT, *SEEDS}}
        by_rest[digest(rest)].append(group)
    swept = [group for same in by_rest.values() if len(same) > 1 for group in same]
    swept.sort(key=lambda group: (group.first.data, group.runs[0].noise, group.first.noise_rate, sigma(group)))
    for panel in panels(swept):
        refuse_other_differences(panel, SWEPT)
    return swept


def _numbers(row: Row) -> dict[str, object]:
    value = row.statistics["test_last"]
    assert value
    return {
        **place(row.group),
        "label": row.title,
        "evaluator": row.name,
        "sigma": sigma(row.group),
        "seeds": " ".join(map(str, row.group.seeds)),
        "num_seeds": len(row.group.seeds),
        "num_runs": len(row.group.runs),
        "test_last_percent_mean": 100 * value.mean,
        "test_last_percent_std": None if value.std is None else 100 * value.std,
    }


def _picture(rows: Sequence[Row]) -> Figure:
    by_panel = [list(same) for _, same in groupby(rows, key=lambda row: (row.group.first.data, row.group.noise))]
    titles = list(dict.fromkeys(row.title for row in rows))
    styles = dict(zip(titles, zip(COLOURS * len(titles), MARKERS * len(titles), strict=False), strict=False))
    spot = {value: x for x, value in enumerate(sorted({sigma(row.group) for row in rows}))}
    picture, axes = grid(len(by_panel), "test accuracy (%)", sharey=True)
    legend = {}
    runs: dict[str, set[int]] = defaultdict(set)
    for row in rows:
        runs[row.title].add(len(row.group.runs))
    for panel, same in zip(axes, by_panel, strict=True):
        for title, line in groupby(same, key=lambda row: row.title):
            colour, marker = styles[title]
            points = [(spot[sigma(row.group)], value) for row in line if (value := row.statistics["test_last"])]
            x, mean = [at for at, _ in points], np.array([100 * value.mean for _, value in points])
            std = np.array([100 * (value.std or 0) for _, value in points])
            panel.fill_between(x, mean - std, mean + std, color=colour, alpha=0.18, linewidth=0)
            (legend[title],) = panel.plot(x, mean, color=colour, marker=marker, markersize=4.5, linewidth=1.5)
        panel.set(title=wrapped(panel, f"{same[0].group.first.data}\n{same[0].group.noise}"), xlabel="σ")
        panel.set_xticks(list(spot.values()), [f"{value:g}" for value in spot])
    place_legend(picture, legend, runs)
    return picture
