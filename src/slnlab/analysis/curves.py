"""The paper's Fig. 1: what is learned epoch by epoch, and what is memorised."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import cycle, groupby
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from slnlab.analysis.runs import Group
from slnlab.errors import DataError

COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, which the colour-blind can tell apart."""
DASHES = ("solid", "dashed", "dashdot")
"""Of the configurations for which the colours serve a first, second and third time."""

STYLE: Any = {
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}

WIDTH = 9
"""Of a figure, in inches: with the font size above legible in a README of 900 pixels."""

Columns = dict[str, npt.NDArray[np.float64]]
"""A group's metrics by name, each (seeds, epochs); accuracies in percent."""


def draw_curves(groups: Sequence[Group], path: Path, secondary: bool = False) -> list[str]:
    """A row of panels for each data set and noise: test accuracy, loss on correctly and on wrongly labelled samples.

    The first group lies on top, so that label correction is seen to branch off from the run that it shares epochs with.
    Lines are means over seeds, bands one sample standard deviation to either side. A colour is a configuration; in
    the test accuracy, a thin line is its network where the thick one is its momentum model. The losses are those of
    the network, as it met the samples in training, against the given labels.

    Args:
        groups: in the order of the legend.
        path: the picture; not written if no group has metrics.
        secondary: draw the test accuracy of secondary rows, too.

    Returns:
        Remarks on what could not be drawn.
    """
    remarks, drawn = [], []
    for group in groups:
        try:
            drawn.append((group, _columns(group)))
        except DataError as error:
            remarks.append(f"not drawn in the curves: {error}")
    if not drawn:
        return remarks
    rows = [list(same) for _, same in groupby(drawn, key=lambda pair: (pair[0].first.data, pair[0].noise))]
    names = dict.fromkeys(_name(group) for group, _ in drawn)
    styles = dict(zip(names, cycle({"color": c, "linestyle": dash} for dash in DASHES for c in COLOURS)))
    legend: dict[str, Line2D] = {}

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.9 * len(rows)), dpi=200, layout=ConstrainedLayoutEngine(w_pad=0.08))
        for panels, row in zip(figure.subplots(len(rows), 3, squeeze=False), rows, strict=True):
            for depth, (group, columns) in enumerate(row):
                legend |= _draw(panels, group, columns, secondary, zorder=3 - depth / 100, **styles[_name(group)])
            _describe(panels, row[0][0])
        figure.align_ylabels()
        place_legend(figure, legend)
        figure.savefig(path)
    return remarks


def place_legend(figure: Figure, legend: dict[str, Any]) -> None:
    """Below the panels, in as many columns as fit; the figure grows by its height.

    Args:
        figure: with constrained layout.
        legend: what is drawn, by label.
    """
    if not legend:
        return
    labels = [textwrap.fill(label, 95) for label in legend]
    longest = max(len(line) for label in labels for line in label.split("\n"))
    columns = max(1, min(len(labels), int(figure.get_figwidth() / (0.7 + 0.085 * longest))))
    lines = -(-len(labels) // columns) * max(label.count("\n") + 1 for label in labels)
    figure.set_figheight(figure.get_figheight() + 0.2 + 0.22 * lines)
    figure.legend(legend.values(), labels, loc="outside lower center", ncols=columns)


def _columns(group: Group) -> Columns:
    """
    Raises:
        DataError: a seed without metrics, or seeds whose metrics have different epochs or columns.
    """
    tables = [run.metrics() for run in group.runs]
    if len({(len(rows), *rows[0]) for rows in tables}) > 1:
        raise DataError(f"{group.runs[0].directory.metrics}: another seed has other epochs or columns")
    return {
        key: np.array([[row[key] for row in rows] for rows in tables]) * (100 if key.endswith("accuracy") else 1)
        for key in tables[0][0]
    }


def _name(group: Group) -> str:
    """What has one colour in all rows of panels."""
    return f"{group.first.method} {group.setting}"


def _draw(panels: Sequence[Axes], group: Group, columns: Columns, secondary: bool, **style: Any) -> dict[str, Line2D]:
    """One group's lines; returns those of the legend by label."""
    accuracy, *losses = panels
    epoch, legend = columns["epoch"][0], {}
    for name, row in group.rows.items():
        key = f"test/{name}/accuracy"
        if key in columns and (secondary or not row.secondary):
            width = 1.0 if name == "network" and len(group.rows) > 1 else 1.9
            line = _line(accuracy, epoch, columns[key], linewidth=width, **style)
            legend[f"{row.title} {group.setting}".strip()] = line
    for panel, key in zip(losses, ("train/loss_correct", "train/loss_wrong"), strict=True):
        if key in columns and np.isfinite(columns[key]).all():
            line = _line(panel, epoch, columns[key], linewidth=1.6, **style)
            if not legend:  # never tested
                legend[f"{group.first.method} {group.setting}".strip()] = line
    return legend


def _line(panel: Axes, epoch: Any, values: npt.NDArray[np.float64], **style: Any) -> Line2D:
    mean = values.mean(0)
    if len(values) > 1:
        std = values.std(0, ddof=1)
        panel.fill_between(epoch, mean - std, mean + std, color=style["color"], alpha=0.18, linewidth=0)
    (line,) = panel.plot(epoch, mean, **style)
    return line


def _describe(panels: Sequence[Axes], group: Group) -> None:
    accuracy, correct, wrong = panels
    accuracy.set(title=f"{group.first.data}, {group.noise}", ylabel="test accuracy (%)")
    correct.set(title="correctly labelled samples", ylabel="mean training loss (nats)")
    wrong.set(title="wrongly labelled samples")
    wrong.sharey(correct)
    correct.set_ylim(bottom=0)
    for panel in panels:
        panel.set_xlabel("epoch")
        panel.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        if not panel.lines:
            panel.text(0.5, 0.5, "not measured", transform=panel.transAxes, ha="center", color="#666666")
            panel.tick_params(length=0, labelleft=False, labelbottom=False)
