"""Loss landscapes around trained networks, as in the paper's Fig. 2."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from slnlab.errors import ConfigError
from slnlab.figures.style import DPI, WIDTH, save, style, wrapped
from slnlab.figures.subjects import (
    Subject,
    above_zero,
    add_network_arguments,
    at_least,
    first_seeds,
    panel_titles,
    subjects,
)

POINTS = "landscape-points"
"""Folder of the finished points, below that of the picture."""

Plane = npt.NDArray[np.float64]


def figure(
    runs: Sequence[Path],
    out: Path,
    points: int = 25,
    range: float = 1.0,
    z_max: float | None = None,
    workers: int = 1,
    weights: str | None = None,
    device: str = "cpu",
    samples: int = 1000,
    seed: int = 0,
    where: Sequence[str] = (),
) -> list[str]:
    """Draw the loss around the weights of each configuration's first seed: a surface on one z-axis, and contours.

    The plane is w + a·d₁ + b·d₂ with filter-normalised random directions (Li et al. 2018), equal draws for all runs.
    Biases and batch norms do not move; batch norms keep their stored statistics. The loss is the mean cross entropy
    against the given labels on training images without augmentation.

    Args:
        runs: searched for finished runs.
        out: folder for `landscape.png`, `landscape.svg` and `landscape.csv` (a line per point), and for the finished
            points; a second call computes the missing ones only.
        points: points on each axis, odd so that the weights themselves are one of them, ≥ 3.
        range: largest |a| and |b|, > 0.
        z_max: upper end of the z-axis in nats; higher losses are cut off. None: the highest loss of all planes.
        workers: number of processes; above 1 on the CPU only.
        weights, device, samples, seed: see `add_arguments`.
        where: conditions on the runs, see `slnlab.tables.selection`.

    Returns:
        Remarks on runs that are not drawn, and the loss at the centre of each plane.

    Raises:
        ConfigError: an option is out of range, or a condition cannot be read.
        DataError: there are no finished runs, a run's data are missing, or a file cannot be written.
    """
    at_least(3, points=points)
    at_least(1, workers=workers, samples=samples)
    above_zero(range=range)
    if points % 2 == 0:
        raise ConfigError(f"points: must be odd, so that one is the trained network, not {points}")
    if workers > 1 and device != "cpu":
        raise ConfigError(f"workers: {workers} processes need device=cpu, not {device}")
    groups, remarks = subjects(runs, weights, where)
    drawn, more = first_seeds(groups)
    axis = np.linspace(-range, range, points)
    planes = [_plane(each, axis, out / POINTS, workers, device, samples, seed) for each in drawn]
    limit = max(float(plane.max()) for plane in planes) if z_max is None else z_max
    lowest = min(float(plane.min()) for plane in planes)
    if limit <= lowest:
        raise ConfigError(f"z_max: must be above the lowest loss, {lowest:.3g} nats, not {limit:g}")
    with style():
        picture = _picture(panel_titles(drawn), axis, planes, lowest, limit)
        numbers = [line for each, plane in zip(drawn, planes, strict=True) for line in _numbers(each, axis, plane)]
        save(picture, out, "landscape", numbers)
    middle = points // 2
    losses = [
        f"{each.title}: loss {plane[middle, middle]:.3f} nats at the trained weights, {plane.max():.3f} at most"
        for each, plane in zip(drawn, planes, strict=True)
    ]
    return [*remarks, *more, *losses]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `figure`."""
    add_network_arguments(parser, samples=1000)
    parser.add_argument("--points", type=int, default=25, metavar="N", help="points on each axis, odd; default: 25")
    parser.add_argument("--range", type=float, default=1.0, help="largest step along each direction; default: 1.0")
    parser.add_argument(
        "--z-max", type=float, metavar="NATS", help="cut the surfaces off above; default: the highest loss"
    )
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes, on the CPU; default: 1")


def _plane(subject: Subject, axis: Plane, folder: Path, workers: int, device: str, samples: int, seed: int) -> Plane:
    """Return the losses (points, points) of the plane, [b, a]."""
    from slnlab.figures.mean_loss import training_loss
    from slnlab.figures.surface import Surface

    loss = training_loss(subject.load(device), samples, seed)
    grid = [(float(a), float(b)) for b in axis for a in axis]
    found = Surface(loss, seed).on(grid, folder, workers)
    return np.array([found[point] for point in grid]).reshape(len(axis), len(axis))


def _numbers(subject: Subject, axis: Plane, plane: Plane) -> list[dict[str, object]]:
    return [
        {**subject.columns, "a": float(a), "b": float(b), "loss_nats": float(plane[row, column])}
        for row, b in enumerate(axis)
        for column, a in enumerate(axis)
    ]


def _picture(titles: Sequence[str], axis: Plane, planes: Sequence[Plane], lowest: float, limit: float) -> Figure:
    wide = min(4, len(planes))
    rows = -(-len(planes) // wide)
    picture = Figure(figsize=(max(WIDTH * wide / 4, WIDTH / 2), 4.9 * rows), dpi=DPI, layout="constrained")
    for number, (title, plane) in enumerate(zip(titles, planes, strict=True)):
        row, column = divmod(number, wide)
        place = (2 * rows, wide, 2 * row * wide + column + 1)
        surface: Any = picture.add_subplot(*place, projection="3d")
        _surface(surface, title, axis, plane, lowest, limit)
        _contours(picture, picture.add_subplot(2 * rows, wide, place[2] + wide), axis, plane)
    return picture


def _surface(panel: Any, title: str, axis: Plane, plane: Plane, lowest: float, limit: float) -> None:
    a, b = np.meshgrid(axis, axis)
    shown = np.where(plane <= limit, plane, np.nan)  # cut open, not covered by a plateau
    panel.plot_surface(a, b, shown, cmap="viridis", vmin=lowest, vmax=limit, rstride=1, cstride=1, linewidth=0)
    panel.set(title=wrapped(panel, title), xlabel="a", ylabel="b", zlim=(lowest, limit))
    panel.set(xticks=[axis[0], 0, axis[-1]], yticks=[axis[0], 0, axis[-1]])
    panel.zaxis.set_major_locator(MaxNLocator(5))
    panel.text2D(1.0, 0.87, "loss (nats)", transform=panel.transAxes, ha="right", fontsize=8)
    panel.tick_params(labelsize=8, pad=0)
    panel.xaxis.labelpad = panel.yaxis.labelpad = -4
    panel.set_box_aspect((1, 1, 0.9), zoom=0.97)


def _contours(picture: Figure, panel: Axes, axis: Plane, plane: Plane) -> None:
    filled = panel.contourf(axis, axis, plane, levels=12, cmap="viridis")
    panel.contour(axis, axis, plane, levels=filled.levels, colors="white", linewidths=0.4)
    panel.plot(0, 0, marker="+", color="white", markersize=9, markeredgewidth=1.6)
    panel.set(xlabel="a", ylabel="b", aspect="equal")
    panel.grid(False)
    bar = picture.colorbar(filled, ax=panel, location="bottom", shrink=0.95)
    bar.set_label("loss (nats)")
    bar.locator = MaxNLocator(5)
    bar.update_ticks()
    bar.ax.tick_params(labelsize=8)
