"""Training curves as in the paper's Fig. 1: learning and memorisation, epoch by epoch."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from slnlab.errors import DataError
from slnlab.figures.panels import Columns, epochs, found_groups, lines_by_epoch, panels
from slnlab.figures.style import (
    DPI,
    WIDTH,
    again,
    line_styles,
    mean_line,
    place_legend,
    save,
    save_picture,
    style,
    wrapped,
)
from slnlab.tables.runs import Group

LOSSES = ("train/loss_correct", "train/loss_wrong")

Drawn = Sequence[tuple[Group, Columns]]


def figure(runs: Sequence[Path], out: Path, secondary: bool = False, where: Sequence[str] = ()) -> list[str]:
    """Draw a row of panels per data set and noise: test accuracy, loss on correct labels, loss on wrong labels.

    Lines are means over seeds, bands reach one sample standard deviation to either side. A colour is a configuration.
    A thin line of test accuracy is the network, a thick line its momentum model, and markers are on further rows of the
    configuration. The losses are training losses of the network against the given labels. The first group lies on top,
    so label correction visibly branches off from the run that it shares epochs with.

    Args:
        runs: searched for finished runs.
        out: folder for `curves.png`, `curves.svg` and `curves.csv`, which has a line per configuration, weights and
            epoch.
        secondary: draw the test accuracy of secondary rows too.
        where: conditions on the runs, see `slnlab.tables.selection`.

    Returns:
        Remarks on runs that are not drawn.

    Raises:
        ConfigError: a condition cannot be read.
        DataError: there are no finished runs, none has metrics, or a file cannot be written.
    """
    groups, remarks = found_groups(runs, where)
    drawn, undrawn = _with_columns(groups)
    if not drawn:
        raise DataError("\n  ".join(["no run has metrics to draw", *undrawn]))
    with style():
        save(_picture(drawn, secondary), out, "curves", list(_numbers(drawn)))
    return remarks + undrawn


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the option of `figure`."""
    parser.add_argument(
        "--all", dest="secondary", action="store_true", help='draw the rows "… (network)" too; the CSV always has them'
    )


def draw_curves(
    groups: Sequence[Group], out: Path, secondary: bool = False, formats: Sequence[str] = ("png",)
) -> list[str]:
    """Draw the curves of groups as one picture, as `figure` does.

    Args:
        groups: in the order of the legend.
        out: existing folder of `curves.<format>`, not written if no group has metrics.
        secondary: draw the test accuracy of secondary rows too.
        formats: png, svg, pdf.

    Returns:
        Remarks on groups that could not be drawn.
    """
    drawn, remarks = _with_columns(groups)
    if drawn:
        with style():
            save_picture(_picture(drawn, secondary), out, "curves", formats)
    return remarks


def _with_columns(groups: Sequence[Group]) -> tuple[list[tuple[Group, Columns]], list[str]]:
    remarks, drawn = [], []
    for group in groups:
        try:
            drawn.append((group, epochs(group)))
        except DataError as error:
            remarks.append(f"not drawn in the curves: {error}")
    tested = [(group, columns) for group, columns in drawn if _is_tested(columns)]
    if not tested:
        return drawn, remarks
    # Beside tested runs, an untested one only trained a network for others.
    untested = [group.runs[0].directory.path for group, columns in drawn if not _is_tested(columns)]
    return tested, [*remarks, *(f"not drawn in the curves: {path} was never tested" for path in untested)]


def _is_tested(columns: Columns) -> bool:
    return any(key.startswith("test/") for key in columns)


def _picture(drawn: Drawn, secondary: bool) -> Figure:
    columns = {id(group): found for group, found in drawn}
    rows = panels([group for group, _ in drawn])
    styles = line_styles(list(dict.fromkeys(_name(group) for group, _ in drawn)))
    legend: dict[str, Line2D] = {}
    runs: dict[str, set[int]] = defaultdict(set)
    picture = Figure(figsize=(WIDTH, 2.9 * len(rows)), dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.08))
    for axes, row in zip(picture.subplots(len(rows), 3, squeeze=False), rows, strict=True):
        for depth, group in enumerate(row):
            look = {"zorder": 3 - depth / 100, **styles[_name(group)]}
            lines = _draw(axes, group, columns[id(group)], secondary, **look)
            legend |= lines
            for label in lines:
                runs[label].add(len(group.runs))
        _describe(axes, row[0])
    picture.align_ylabels()
    place_legend(picture, legend, runs)
    return picture


def _name(group: Group) -> str:
    """Name of a configuration, which has one colour in all panels."""
    return f"{group.first.method} {group.setting}"


def _draw(axes: Sequence[Axes], group: Group, columns: Columns, secondary: bool, **look: Any) -> dict[str, Line2D]:
    """Draw the lines of a group. Returns its lines for the legend, by label."""
    accuracy, *losses = axes
    epoch, legend, thick = columns["epoch"][0], {}, 0
    for name, row in group.rows.items():
        key = f"test/{name}/accuracy"
        if key in columns and (secondary or not row.secondary):
            thin = name == "network" and len(group.rows) > 1
            more = {"linewidth": 1.0} if thin else {"linewidth": 1.9, **again(thick)}
            thick += not thin
            legend[f"{row.title} {group.setting}".strip()] = mean_line(accuracy, epoch, columns[key], **look, **more)
    for panel, key in zip(losses, LOSSES, strict=True):
        if key in columns and np.isfinite(columns[key]).all():
            line = mean_line(panel, epoch, columns[key], linewidth=1.6, **look)
            if not legend:  # never tested
                legend[f"{group.first.method} {group.setting}".strip()] = line
    return legend


def _describe(axes: Sequence[Axes], group: Group) -> None:
    accuracy, correct, wrong = axes
    accuracy.set(title=wrapped(accuracy, f"{group.first.data}, {group.noise}"), ylabel="test accuracy (%)")
    for panel, kind in ((correct, "correctly"), (wrong, "wrongly")):  # not of one scale: wrong labels cost far more
        panel.set(title=f"{kind} labelled samples", ylabel="mean training loss (nats)")
        panel.set_ylim(bottom=0)
    for panel in axes:
        panel.set_xlabel("epoch")
        panel.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        if not panel.lines:
            panel.text(0.5, 0.5, "not measured", transform=panel.transAxes, ha="center", color="#666666")
            panel.tick_params(length=0, labelleft=False, labelbottom=False)


def _numbers(drawn: Drawn) -> Iterator[dict[str, object]]:
    for group, columns in drawn:
        measures = {f"test/{name}/accuracy": row.title for name, row in group.rows.items()}
        measures |= dict.fromkeys(
            LOSSES, group.rows["network"].title if "network" in group.rows else group.first.method
        )
        for key, label in measures.items():
            yield from lines_by_epoch(group, columns, key, label)
