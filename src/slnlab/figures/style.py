"""The common look of the figures, and their three files. Nothing here imports torch."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from slnlab.errors import DataError
from slnlab.storage.tables import write_csv

COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, safe for colour-blind readers."""
DASHES = ("solid", "dashed", "dashdot", "dotted")
"""Line styles for the first, second, third and fourth use of the palette."""
MARKERS = "osD^vPX"

WIDTH = 9
"""Width of a figure, in inches. The font size below is legible in a README of 900 pixels."""
DPI = 200

_STYLE: Any = {
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # editable text, as publishers ask
    "svg.hashsalt": "slnlab",  # equal numbers give an equal file
}


def style() -> AbstractContextManager[None]:
    """The context in which a figure is made and saved."""
    return mpl.rc_context(_STYLE)


def line_styles(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """A colour and a line style for each name, in order; up to 28 differ."""
    return dict(zip(names, cycle({"color": c, "linestyle": dash} for dash in DASHES for c in COLOURS), strict=False))


def again(times: int) -> dict[str, Any]:
    """What tells a line from those before it with the same colour and dash, by their number: none, then a marker."""
    if not times:
        return {}
    return {"marker": MARKERS[(times - 1) % len(MARKERS)], "markersize": 4.5, "markevery": 0.12}


def grid(panels: int, ylabel: str, wide: int = 4, height: float = 3.0, **options: Any) -> tuple[Figure, list[Axes]]:
    """A figure with this many panels and its axes. One panel takes half of the width.

    Args:
        panels: at least 1.
        ylabel: of the first panel of each row.
        wide: most panels in a row.
        height: of a row of panels, in inches.
        options: of `Figure.subplots`, e.g. sharey.
    """
    wide = min(panels, wide)
    high = -(-panels // wide)
    size = (WIDTH if wide > 1 else WIDTH / 2, height * high)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    table = figure.subplots(high, wide, squeeze=False, **options)
    for first in table[:, 0]:
        first.set_ylabel(ylabel)
    axes = list(table.flat)
    for unused in axes[panels:]:
        unused.set_axis_off()
    return figure, axes[:panels]


def wrapped(axes: Axes, title: str) -> str:
    """A title broken into lines that fit above the panel, whose share of the width the grid of panels gives."""
    spot, figure = axes.get_subplotspec(), axes.get_figure(root=True)
    assert spot is not None
    assert figure is not None
    inches = figure.get_figwidth() / spot.get_gridspec().ncols
    return "\n".join(textwrap.fill(line, int(11 * inches), break_on_hyphens=False) for line in title.split("\n"))


def mean_line(axes: Axes, x: Any, values: npt.NDArray[np.float64], **options: Any) -> Line2D:
    """Draw the mean over runs, with a band of one sample standard deviation to either side for two or more runs.

    Args:
        axes: to draw on.
        x: (points,).
        values: (runs, points); a point that a run lacks (NaN) is left out.
        options: of the line; its colour is the band's.
    """
    known = np.isfinite(values).all(0)
    x, values = np.asarray(x)[known], values[:, known]
    mean = values.mean(0)
    (line,) = axes.plot(x, mean, **options)
    if len(values) > 1:
        std = values.std(0, ddof=1)
        axes.fill_between(x, mean - std, mean + std, color=line.get_color(), alpha=0.18, linewidth=0)
    return line


def place_legend(
    figure: Figure, legend: dict[str, Any], runs: Mapping[str, Collection[int]] | None = None, spread: str = "bands"
) -> None:
    """Place the legend below the panels, in as many columns as fit. The figure grows by its height.

    Args:
        figure: with constrained layout.
        legend: drawn lines or bars by label.
        runs: numbers of runs that the means of each label are over; None: the legend does not say.
        spread: what shows the standard deviation over runs, in words.
    """
    if not legend:
        return
    runs = runs or {}
    labels = [textwrap.fill(f"{label}{_count(runs[label])}" if label in runs else label, 95) for label in legend]
    longest = max(len(line) for label in labels for line in label.split("\n"))
    columns = max(1, min(len(labels), int(figure.get_figwidth() / (0.7 + 0.085 * longest))))
    lines = -(-len(labels) // columns) * max(label.count("\n") + 1 for label in labels)
    repeated = any(number > 1 for numbers in runs.values() for number in numbers)
    title = f"{spread}: ± one standard deviation over n runs" if repeated else None
    figure.set_figheight(figure.get_figheight() + 0.2 + 0.22 * (lines + repeated))
    figure.legend(legend.values(), labels, loc="outside lower center", ncols=columns, title=title, title_fontsize=8)


def _count(runs: Collection[int]) -> str:
    """The number of runs as ` (n=3)`, or ` (n=3–9)` where it is not the same everywhere."""
    return f" (n={'–'.join(dict.fromkeys(map(str, (min(runs), max(runs)))))})"


_UNDATED: dict[str, dict[str, None]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
"""Metadata that would differ between equal pictures."""


def save_picture(figure: Figure, out: Path, name: str, formats: Sequence[str] = ("png",)) -> None:
    """Write `<name>.<format>` into the folder `out` for some formats of matplotlib. Call it within `style()`.

    Raises:
        OSError: a file cannot be written.
    """
    for format in formats:
        figure.savefig(out / f"{name}.{format}", metadata=_UNDATED.get(format))


def save(figure: Figure, out: Path, kind: str, numbers: Sequence[dict[str, object]]) -> None:
    """Write `<kind>.png`, `<kind>.svg` and `<kind>.csv`. Call it within `style()`.

    Args:
        figure: the picture.
        out: folder of the files, made if missing.
        kind: name of the files.
        numbers: lines of the CSV, with equal keys. None is an empty cell.

    Raises:
        DataError: a file cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        save_picture(figure, out, kind, ("png", "svg"))
        write_csv(out / f"{kind}.csv", numbers)
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror})") from error
