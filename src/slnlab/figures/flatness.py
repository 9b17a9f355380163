"""Sharpness of the minima: the largest Hessian eigenvalue and SAM's rise of the loss (the paper's Claim 1)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from slnlab.errors import ConfigError
from slnlab.figures.style import DPI, WIDTH, line_styles, mean_line, place_legend, save, style
from slnlab.figures.subjects import Subject, add_network_arguments, at_least, panel_titles, subjects

RADII = (0.05, 0.1, 0.2)
"""Radii ρ of the ball around the weights; SAM's paper trains with 0.05."""


class Sharpness(NamedTuple):
    """The measures of one run.

    Args:
        loss: L(w), in nats.
        eigenvalue: the largest of the Hessian, in nats; None: the iteration has not converged.
        rises: L(w + ε) − L(w) for each radius, in nats.
    """

    loss: float
    eigenvalue: float | None
    rises: list[float]


Measured = list[tuple[list[Subject], list[Sharpness]]]
"""The seeds of each configuration, with their measures."""


def figure(
    runs: Sequence[Path],
    out: Path,
    radii: Sequence[float] = RADII,
    weights: str | None = None,
    device: str = "cpu",
    samples: int = 1000,
    seed: int = 0,
    where: Sequence[str] = (),
) -> list[str]:
    """Draw the largest Hessian eigenvalue, and SAM's rise of the loss against its radius; all seeds and their mean.

    The loss is the mean cross entropy against the given labels on training images without augmentation. Batch norms are
    in eval mode. See `slnlab.figures.sharpness` for the methods and the tolerance.

    Args:
        runs: searched for finished runs.
        out: folder for `flatness.png`, `flatness.svg` and `flatness.csv`, which has a line per run.
        radii: of SAM's ball, each ≥ 0; at least one.
        weights, device, samples, seed: see `add_arguments`.
        where: conditions on the runs, see `slnlab.tables.selection`.

    Returns:
        Remarks on runs that are left out, and the means with sample standard deviations.

    Raises:
        ConfigError: an option is out of range, or a condition cannot be read.
        DataError: there are no finished runs, a run's data are missing, or a file cannot be written.
    """
    if not radii:
        raise ConfigError("radii: at least one is needed")
    at_least(1, samples=samples)
    at_least(0, radii=min(radii))
    groups, remarks = subjects(runs, weights, where)
    radii = sorted(set(radii))
    measured = [(same, [_measure(each, radii, device, samples, seed) for each in same]) for same in groups]
    with style():
        save(_picture(measured, radii), out, "flatness", _numbers(measured, radii))
    return [*remarks, *_remarks(measured, radii)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `figure`."""
    add_network_arguments(parser, samples=1000)
    parser.add_argument(
        "--radii",
        type=float,
        nargs="+",
        default=RADII,
        metavar="RHO",
        help=f"radii of SAM's ball around the weights; default: {' '.join(map(str, RADII))}",
    )


def _measure(subject: Subject, radii: Sequence[float], device: str, samples: int, seed: int) -> Sharpness:
    from slnlab.figures.mean_loss import training_loss
    from slnlab.figures.sharpness import largest_eigenvalue, sam_sharpness

    loss = training_loss(subject.load(device), samples, seed)
    return Sharpness(loss.at(), largest_eigenvalue(loss, seed), sam_sharpness(loss, radii))


def _numbers(measured: Measured, radii: Sequence[float]) -> list[dict[str, object]]:
    return [
        {
            **each.columns,
            "loss_nats": found.loss,
            "largest_hessian_eigenvalue": found.eigenvalue,
            **{f"sam_rise_{radius:g}": rise for radius, rise in zip(radii, found.rises, strict=True)},
        }
        for same, all_found in measured
        for each, found in zip(same, all_found, strict=True)
    ]


def _eigenvalues(found: Sequence[Sharpness]) -> npt.NDArray[np.float64]:
    return np.array([each.eigenvalue for each in found if each.eigenvalue is not None])


def _picture(measured: Measured, radii: Sequence[float]) -> Figure:
    titles = panel_titles([same[0] for same, _ in measured])
    styles = line_styles(titles)
    picture = Figure(figsize=(WIDTH, 3.2 + 0.12 * len(titles)), dpi=DPI, layout="constrained")
    eigenvalue, rise = picture.subplots(1, 2)
    legend, runs = {}, {}
    for row, (title, (_, found)) in enumerate(zip(titles, measured, strict=True)):
        look = styles[title]
        known = _eigenvalues(found)
        eigenvalue.plot(known, np.full(len(known), row), "o", color=look["color"], markersize=5, alpha=0.6)
        if len(known):
            eigenvalue.plot(known.mean(), row, "|", color="black", markersize=16, markeredgewidth=2)
        rises = np.array([each.rises for each in found])
        label = title.replace("\n", ", ")
        legend[label] = mean_line(rise, radii, rises, marker="o", markersize=4, **look)
        runs[label] = {len(found)}
    eigenvalue.set_yticks(range(len(titles)), titles)
    eigenvalue.set_ylim(len(titles) - 0.5, -0.5)
    eigenvalue.set(xlabel="largest Hessian eigenvalue (nats)", title="each seed (dots) and mean (bars)")
    if all((_eigenvalues(found) > 0).all() for _, found in measured):
        eigenvalue.set_xscale("log")
    rise.set_xticks(radii, [f"{radius:g}" for radius in radii])
    rise.set(xlabel="radius ρ", ylabel="L(w + ε) − L(w) (nats)", title="SAM sharpness, ‖ε‖₂ = ρ")
    if all(value > 0 for _, found in measured for each in found for value in each.rises):
        rise.set_yscale("log")
    place_legend(picture, legend, runs)
    return picture


def _remarks(measured: Measured, radii: Sequence[float]) -> list[str]:
    lines = []
    for same, found in measured:
        known, rises = _eigenvalues(found), np.array([each.rises for each in found])
        parts = [f"largest Hessian eigenvalue {_spread(known)}"] if len(known) else []
        parts += [f"SAM rise at ρ={radius:g} {_spread(rises[:, number])}" for number, radius in enumerate(radii)]
        lines.append(f"{same[0].title} ({len(same)} seed{'s' if len(same) > 1 else ''}): {', '.join(parts)}")
        for each, one in zip(same, found, strict=True):
            if one.eigenvalue is None:
                lines.append(f"{each.finished.directory.path}: the iteration for the eigenvalue has not converged")
    return lines


def _spread(values: npt.NDArray[np.float64]) -> str:
    return f"{values.mean():.3g}" + (f" ± {values.std(ddof=1):.2g}" if len(values) > 1 else "")
