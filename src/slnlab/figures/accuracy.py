"""Test accuracy by epoch, a panel per data set and noise: what `sgd_noise` and `correction` draw."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from slnlab.errors import DataError
from slnlab.figures.panels import Columns, epochs, lines_by_epoch
from slnlab.figures.style import COLOURS, DASHES, again, grid, mean_line, place_legend, wrapped
from slnlab.tables.runs import Group


class Curve(NamedTuple):
    """The test accuracy of one row of a group, in percent.

    Args:
        group: its runs.
        label: in the legend.
        family: curves of one family share a colour and differ in their dashes.
        columns: `epoch`, and `key` with the accuracies, each (runs, epochs).
        key: of the metric.
    """

    group: Group
    label: str
    family: str
    columns: Columns
    key: str


def curve(group: Group, weights: str, label: str, family: str, since: int = 1) -> Curve:
    """Read the curve of a row.

    Args:
        group: its runs.
        weights: name of the row.
        label, family: see `Curve`.
        since: the first epoch.

    Raises:
        DataError: a run has no metrics, other epochs than another, or no test accuracy of these weights.
    """
    columns, key = epochs(group), f"test/{weights}/accuracy"
    if key not in columns:
        raise DataError(f"{group.runs[0].directory.metrics}: has no column {key}; data.test=true measures it")
    later = columns["epoch"][0] >= since
    return Curve(group, label, family, {name: columns[name][:, later] for name in ("epoch", key)}, key)


def numbers(drawn: Iterable[Sequence[Curve]]) -> Iterator[dict[str, object]]:
    """Yield the lines of the CSV, one per curve and evaluated epoch."""
    for same in drawn:
        for each in same:
            yield from lines_by_epoch(each.group, each.columns, each.key, each.label)


def picture(drawn: Sequence[Sequence[Curve]]) -> tuple[Figure, list[Axes]]:
    """Draw means over runs, with bands of one sample standard deviation.

    Args:
        drawn: the curves of each panel. Equal labels have equal looks.

    Returns:
        (the figure, its panels).
    """
    found, axes = grid(len(drawn), "test accuracy (%)")
    looks = _looks([each for same in drawn for each in same])
    legend = {}
    runs: dict[str, set[int]] = defaultdict(set)
    for panel, same in zip(axes, drawn, strict=True):
        for each in same:
            values, epoch = each.columns[each.key], each.columns["epoch"][0]
            legend[each.label] = mean_line(panel, epoch, values, linewidth=1.6, **looks[each.label])
            runs[each.label].add(len(values))
        first = same[0].group
        panel.set(title=wrapped(panel, f"{first.first.data}\n{first.noise}"), xlabel="epoch")
        panel.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    place_legend(found, {label: legend[label] for label in looks}, runs)
    return found, axes


def _looks(curves: Iterable[Curve]) -> dict[str, dict[str, Any]]:
    """A colour per family and a line style per label within it, then a marker too, ordered by family."""
    families: dict[str, list[str]] = {}
    for each in curves:
        labels = families.setdefault(each.family, [])
        if each.label not in labels:
            labels.append(each.label)
    return {
        label: {
            "color": COLOURS[number % len(COLOURS)],
            "linestyle": DASHES[place % len(DASHES)],
            **again(place // len(DASHES)),
        }
        for number, labels in enumerate(families.values())
        for place, label in enumerate(sorted(labels))
    }
