"""Training curves as in the paper's Fig. 1: learning and memorisation, epoch by epoch."""

from __future__ import annotations

import math
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
"""Okabe and Ito's palette, safe for colour-blind readers."""
DASHES = ("solid", "dashed", "dashdot")
"""Line styles for the first, second and third use of the palette."""

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
"""Width of a figure, in inches. The font size above is legible in a README of 900 pixels."""

Columns = dict[str, npt.NDArray[np.float64]]
"""Metrics of a group by name, each (seeds, epochs); accuracies in percent; NaN: not evaluated after this epoch."""


def draw_curves(groups: Sequence[Group], path: Path, secondary: bool = False) -> list[str]:
    """Draw a row of panels per data set and noise: test accuracy, loss on correct labels, loss on wrong labels.

    Lines are means over seeds, bands reach one sample standard deviation to either side. A colour is a configuration.
    A thin line of test accuracy is the network, a thick line its momentum model. The losses are training losses of the
    network against the given labels. The first group lies on top, so label correction visibly branches off from the
    run that it shares epochs with.

    Args:
        groups: in the order of the legend.
        path: of the picture; not written if no group has metrics.
        secondary: draw the test accuracy of secondary rows too.

    Returns:
        Remarks on groups that could not be drawn.
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
    """Place the legend below the panels, in as many columns as fit. The figure grows by its height.

    Args:
        figure: with constrained layout.
        legend: drawn lines or bars by label.
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
    """The metrics of a group.

    Raises:
        DataError: a seed has no metrics, or its epochs or columns differ from another's.
    """
    tables = [run.metrics() for run in group.runs]
    if len({(len(rows), *rows[-1]) for rows in tables}) > 1:
        raise DataError(f"{group.runs[0].directory.metrics}: another seed has other epochs or columns")
    return {
        key: np.array([[row.get(key, math.nan) for row in rows] for rows in tables])
        * (100 if key.endswith("accuracy") else 1)
        for key in tables[0][-1]
    }


def _name(group: Group) -> str:
    """Name of a configuration, which has one colour in all panels."""
    return f"{group.first.method} {group.setting}"


def _draw(panels: Sequence[Axes], group: Group, columns: Columns, secondary: bool, **style: Any) -> dict[str, Line2D]:
    """Draw the lines of a group. Returns its lines for the legend, by label."""
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
    evaluated = np.isfinite(values).all(0)  # after every k-th epoch
    epoch, values = epoch[evaluated], values[:, evaluated]
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
