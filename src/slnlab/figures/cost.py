"""Test accuracy against training cost, as in the paper's Fig. 8."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle, groupby, product
from pathlib import Path
from statistics import median
from typing import NamedTuple

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from slnlab.errors import DataError
from slnlab.figures.panels import found_groups, place
from slnlab.figures.style import COLOURS, MARKERS, grid, place_legend, save, style, wrapped
from slnlab.record.result import Result
from slnlab.tables.costs import UNKNOWN, cost_of, epochs_of_cross_entropy, read_costs
from slnlab.tables.table import Row, make_rows


class Point(NamedTuple):
    """A row of the results with its cost.

    Args:
        row: with test accuracies.
        cost: a multiple of cross entropy's, > 0.
    """

    row: Row
    cost: float

    @property
    def label(self) -> str:
        """The title with the settings."""
        return f"{self.row.title} {self.row.group.setting}".strip()


def figure(
    runs: Sequence[Path], out: Path, costs: Path | None = None, secondary: bool = False, where: Sequence[str] = ()
) -> list[str]:
    """Draw test accuracy at the last epoch against training cost as a multiple of cross entropy's.

    Each data set and noise has a panel with a point per row, the mean over runs with one sample standard deviation.
    The cost axis is logarithmic.

    Args:
        runs: searched for finished runs.
        out: folder for `cost.png`, `cost.svg` and `cost.csv`, which has a line per row.
        costs: a file of `python -m benchmarks.methods --json`; None: the median recorded training time of the runs,
            divided by that of the `ce` runs with the same data, noise, epochs and model.
        secondary: draw secondary rows too.
        where: conditions on the runs, see `slnlab.tables.selection`.

    Returns:
        Remarks on runs that are not drawn, and on the source of the costs.

    Raises:
        ConfigError: a condition cannot be read.
        DataError: no finished run has a test accuracy and a cost, or a file cannot be read or written.
    """
    drawn, remarks = drawn_points(runs, costs, secondary, where)
    with style():
        save(_picture(drawn), out, "cost", [numbers(point, costs) for same in drawn for point in same])
    return remarks


def drawn_points(
    runs: Sequence[Path], costs: Path | None, secondary: bool = False, where: Sequence[str] = ()
) -> tuple[list[list[Point]], list[str]]:
    """The points of each data set and noise, and remarks as from `figure`.

    Args:
        runs, costs, secondary: see `figure`.
        where: conditions on the runs, see `slnlab.tables.selection`.

    Raises:
        ConfigError: a condition cannot be read.
        DataError: see `figure`.
    """
    ratios = None if costs is None else read_costs(costs)
    groups, remarks = found_groups(runs, where)
    rows = [
        row
        for row in make_rows(groups)
        if row.statistics["test_last"] and (secondary or not row.group.rows[row.name].secondary)
    ]
    drawn: list[list[Point]] = []
    for _, found in groupby(rows, key=lambda row: (row.group.first.data, row.group.noise)):
        same = list(found)
        points, missing = _recorded(same) if ratios is None else _measured(same, ratios, costs)
        remarks += missing
        if points:
            drawn.append(points)
        lengths = sorted({point.row.group.first.epochs for point in points})
        if len(lengths) > 1:
            remarks.append(
                f"{same[0].group.noise}: runs of {' and '.join(map(str, lengths))} epochs share a panel, each with its "
                "cost in runs of CE of its own length; compare equal lengths only"
            )
    if not drawn:
        raise DataError("\n  ".join(["no finished run has a test accuracy and a cost", *remarks]))
    if ratios is None:
        remarks.append(
            "costs: recorded training times. They are rough, as machines differ and runs may have shared cores; "
            "`python -m benchmarks.methods --json FILE` measures side by side, for --costs FILE. Recorded times "
            "lack the runs that a method needs first"
        )
    return drawn, remarks


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `figure`."""
    parser.add_argument(
        "--costs",
        type=Path,
        metavar="JSON",
        help="file of `python -m benchmarks.methods --json`; default: the recorded training times over those of ce",
    )
    parser.add_argument("--all", dest="secondary", action="store_true", help='draw the rows "… (network)" too')


def _measured(rows: Sequence[Row], ratios: Mapping[str, float], file: Path | None) -> tuple[list[Point], list[str]]:
    epochs = epochs_of_cross_entropy(row.group.first for row in rows)
    found = [(row, cost_of(row.group.first, ratios, epochs)) for row in rows]
    missing = [row for row, cost in found if cost is None]
    points = [Point(row, cost) for row, cost in found if cost is not None]
    unknown = f"not drawn, without a known cost: {_named(missing)}; {UNKNOWN.format(file)}"
    return points, [unknown] * bool(missing)


def _recorded(rows: Sequence[Row]) -> tuple[list[Point], list[str]]:
    """Costs from the median total training time, over that of the panel's `ce` runs with the same epochs and model."""
    baseline = {id(run): run.result for row in rows if row.group.first.method == "ce" for run in row.group.runs}
    if not baseline:
        group = rows[0].group
        where = f"{group.first.data}, {group.noise} ({group.runs[0].directory.path}, ...)"
        return [], [f"not drawn: {where} has no run of method=ce to compare with; --costs FILE needs none"]
    points, missing = [], []
    for row in rows:
        alike = [each.timing.total_seconds for each in baseline.values() if _size(each) == _size(row.group.first)]
        if alike:
            seconds = median(run.result.timing.total_seconds for run in row.group.runs)
            points.append(Point(row, seconds / median(alike)))
        else:
            missing.append(row)
    unlike = f"not drawn, as no run of method=ce has their epochs and model: {_named(missing)}"
    return points, [unlike] * bool(missing)


def _size(result: Result) -> tuple[int, object]:
    """The number of epochs and the network; only costs with equal ones compare."""
    return result.epochs, result.identity.get("model")


def _named(rows: Iterable[Row]) -> str:
    return ", ".join(dict.fromkeys(Point(row, 1).label for row in rows))


def numbers(point: Point, costs: Path | None) -> dict[str, object]:
    """The line of a CSV for a point. `costs` is as for `figure`."""
    row, value = point.row, point.row.statistics["test_last"]
    assert value
    return {
        **place(row.group),
        "label": row.title,
        "setting": row.group.setting,
        "method": row.group.first.method,
        "evaluator": row.name,
        "runs": len(row.group.runs),
        "cost": point.cost,
        "cost_source": "recorded" if costs is None else "measured side by side",
        "test_last_percent_mean": 100 * value.mean,
        "test_last_percent_std": None if value.std is None else 100 * value.std,
    }


def _picture(drawn: Sequence[Sequence[Point]]) -> Figure:
    labels = list(dict.fromkeys(point.label for same in drawn for point in same))
    looks = dict(zip(labels, cycle(product(MARKERS, COLOURS)), strict=False))  # the first 49 differ
    picture, panels = grid(len(drawn), "test accuracy (%)", wide=2, sharex=True)
    legend = {}
    runs: dict[str, set[int]] = defaultdict(set)
    for panel, same in zip(panels, drawn, strict=True):
        for number, point in enumerate(same):
            marker, colour = looks[point.label]
            runs[point.label].add(len(point.row.group.runs))
            value = point.row.statistics["test_last"]
            assert value
            legend[point.label] = panel.errorbar(
                point.cost,
                100 * value.mean,
                100 * (value.std or 0),
                fmt=marker,
                color=colour,
                markersize=7,
                markeredgecolor="white",
                elinewidth=1,
                zorder=3 - number / 100,
            )
        first = same[0].row.group
        panel.set(title=wrapped(panel, f"{first.first.data}\n{first.noise}"), xlabel="training cost (× CE)")
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_locator(LogLocator(base=2, subs=(1, 1.5), numticks=12))
        panel.xaxis.set_tick_params(labelbottom=True)
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.xaxis.set_minor_formatter(NullFormatter())
    costs = [point.cost for same in drawn for point in same]
    panels[0].set_xlim(min(0.9, 0.95 * min(costs)), max(2.1, 1.1 * max(costs)))
    place_legend(picture, {label: legend[label] for label in labels}, runs, "bars")
    return picture
