"""Test accuracy against training cost, and the methods that no other one beats in both."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from slnlab.figures.cost import Point, drawn_points, numbers
from slnlab.figures.cost import add_arguments as _add_costs
from slnlab.figures.style import COLOURS, grid, save, style, wrapped


def front(points: Sequence[Point]) -> list[Point]:
    """The points with no other of at most their cost and at least their accuracy, by cost. Equal points all count."""
    best: list[Point] = []
    for point in sorted(points, key=lambda each: (each.cost, -_accuracy(each))):
        if not best or _accuracy(point) > _accuracy(best[-1]) or (_place(point) == _place(best[-1])):
            best.append(point)
    return best


def figure(
    runs: Sequence[Path], out: Path, costs: Path | None = None, secondary: bool = False, where: Sequence[str] = ()
) -> list[str]:
    """Draw test accuracy at the last epoch against training cost, with the Pareto front of each data set and noise.

    Points of the front have a number, and their names stand below. Bars are one sample standard deviation over runs.

    Args:
        runs, costs, secondary: see `slnlab.figures.cost.figure`.
        out: folder for `pareto.png`, `pareto.svg` and `pareto.csv`, which has a line per row.
        where: conditions on the runs, see `slnlab.tables.selection`.

    Raises:
        ConfigError, DataError: see `slnlab.figures.cost.drawn_points`.
    """
    drawn, remarks = drawn_points(runs, costs, secondary, where)
    fronts = [front(same) for same in drawn]
    lines = [
        {**numbers(point, costs), "on_front": point in best}
        for same, best in zip(drawn, fronts, strict=True)
        for point in same
    ]
    with style():
        save(_picture(drawn), out, "pareto", lines)
    return remarks


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `figure`."""
    _add_costs(parser)


def _accuracy(point: Point) -> float:
    found = point.row.statistics["test_last"]
    assert found
    return 100 * found.mean


def _place(point: Point) -> tuple[float, float]:
    return point.cost, _accuracy(point)


def _picture(drawn: Sequence[Sequence[Point]]) -> Figure:
    picture, panels = grid(len(drawn), "test accuracy (%)", wide=2, height=4.2)
    for panel, same in zip(panels, drawn, strict=True):
        best = front(same)
        others = [point for point in same if point not in best]
        panel.plot(*zip(*map(_place, others), strict=True) if others else ([], []), "o", color="#999999", markersize=4)
        steps = [_place(point) for point in best]
        panel.step(*zip(*steps, strict=True), where="post", color=COLOURS[1], linewidth=1, zorder=2)
        for point in best:
            found = point.row.statistics["test_last"]
            assert found
            spread = 100 * (found.std or 0)
            panel.errorbar(*_place(point), spread, fmt="D", color=COLOURS[0], markersize=6, elinewidth=1, zorder=3)
        _name(panel, best)
        first = same[0].row.group
        panel.set_title(wrapped(panel, f"{first.first.data}\n{first.noise}"))
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_locator(LogLocator(base=2, numticks=12))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.xaxis.set_minor_formatter(NullFormatter())
        costs = [point.cost for point in same]
        panel.set_xlim(min(0.9, 0.85 * min(costs)), max(2.1, 1.6 * max(costs)))
    return picture


def _name(panel: Axes, best: Sequence[Point]) -> None:
    """Number the front in the order of cost, and write the names below the panel, where they cover nothing."""
    for number, point in enumerate(best, 1):
        # No point lies above and to the left of one on the front.
        offset = {"xytext": (-3, 3), "textcoords": "offset points", "ha": "right", "va": "bottom"}
        panel.annotate(str(number), _place(point), fontsize=8, **offset)  # type: ignore[arg-type]
    names = ",  ".join(f"{number} {point.label}".replace(" ", "\u00a0") for number, point in enumerate(best, 1))
    panel.set_xlabel("training cost (× CE)\n" + wrapped(panel, names))
