"""Propositions 1–3 of the paper on trained networks: predicted against measured noise of the gradient."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from slnlab.figures.style import DPI, WIDTH, save, style, wrapped
from slnlab.figures.subjects import Subject, add_network_arguments, at_least, first_seeds, panel_titles, subjects

SHOWN = 2000
"""Largest number of points in a panel and in the CSV for each proposition; R² and deviation cover all."""

NAMES = (
    "Proposition 1: noise on the logits' gradient (Eq. 2), on each parameter",
    "Proposition 2: SLN, on each logit",
    "Proposition 3: SLN, on each parameter",
)


class Comparison(NamedTuple):
    """Standard deviations for σ = 1 of one proposition, over all images and parameters (or logits).

    Args:
        predicted, measured: (images, entries).
    """

    predicted: npt.NDArray[np.float64]
    measured: npt.NDArray[np.float64]

    @property
    def r_squared(self) -> float:
        """R² of the prediction: 1 − Σ(measured − predicted)² / Σ(measured − mean)²."""
        residual = np.square(self.measured - self.predicted).sum()
        return float(1 - residual / np.square(self.measured - self.measured.mean()).sum())

    @property
    def largest_deviation(self) -> float:
        """The largest |measured / predicted − 1| where noise is predicted."""
        noisy = self.predicted > 0
        return float(np.abs(self.measured[noisy] / self.predicted[noisy] - 1).max(initial=0.0))

    @property
    def unpredicted(self) -> float:
        """The largest measured value where no noise is predicted."""
        return float(self.measured[self.predicted == 0].max(initial=0.0))


def figure(
    runs: Sequence[Path],
    out: Path,
    draws: int = 1000,
    weights: str | None = None,
    device: str = "cpu",
    samples: int = 8,
    seed: int = 0,
    where: Sequence[str] = (),
) -> list[str]:
    """Draw measured against predicted standard deviations, a row for the first seed of each configuration.

    The noise is that on the gradient of single training images with their given labels, as in the paper. Batch norms
    are in eval mode, so that the output of an image is a function of the parameters alone. All values are for σ = 1;
    the noise is proportional to σ. See `slnlab.figures.gradient_noise` for formulas and measurement.

    Args:
        runs: searched for finished runs.
        out: folder for `propositions.png`, `propositions.svg` and `propositions.csv`, which has a line per point.
        draws: of the noise for each image, ≥ 2.
        weights, device, samples, seed: see `add_arguments`.
        where: conditions on the runs, see `slnlab.tables.selection`.

    Returns:
        Remarks on runs that are not drawn; R² and largest relative deviation of each proposition.

    Raises:
        ConfigError: an option is out of range, or a condition cannot be read.
        DataError: there are no finished runs, a run's data are missing, or a file cannot be written.
    """
    at_least(2, draws=draws)
    at_least(1, samples=samples)
    groups, remarks = subjects(runs, weights, where)
    drawn, more = first_seeds(groups)
    compared = [_compare(each, draws, device, samples, seed) for each in drawn]
    with style():
        picture = _picture(panel_titles(drawn), compared, seed)
        lines = [
            line
            for each, three in zip(drawn, compared, strict=True)
            for number, comparison in enumerate(three, 1)
            for line in _numbers(each, number, comparison, seed)
        ]
        save(picture, out, "propositions", lines)
    from slnlab.figures.gradient_noise import standard_error

    error = f"{draws} draws measure a standard deviation to {standard_error(draws):.1%} (standard error)"
    return [*remarks, *more, error, *(_remark(*pair) for pair in zip(drawn, compared, strict=True))]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `figure`."""
    add_network_arguments(parser, samples=8)
    parser.add_argument("--draws", type=int, default=1000, metavar="N", help="draws of the noise; default: 1000")


def _compare(subject: Subject, draws: int, device: str, samples: int, seed: int) -> list[Comparison]:
    """Return the comparison of each proposition."""
    from slnlab.figures.gradient_noise import measured, predicted
    from slnlab.figures.mean_loss import training_loss
    from slnlab.streams import Streams

    loss = training_loss(subject.load(device), samples, seed)
    streams = Streams(seed)
    predictions, measurements = [], []
    for number, (image, label) in enumerate(zip(loss.images.split(1), loss.labels.split(1), strict=True)):
        generator = streams("gradient noise", number)
        predictions.append(predicted(loss.network, image))
        measurements.append(measured(loss.network, image, label, draws, generator))

    def stacked(columns: Sequence[object]) -> npt.NDArray[np.float64]:
        return np.stack([column.cpu().numpy() for column in columns])  # type: ignore[attr-defined]

    pairs = zip(zip(*predictions, strict=True), zip(*measurements, strict=True), strict=True)
    return [Comparison(stacked(one), stacked(other)) for one, other in pairs]


def _chosen(comparison: Comparison, seed: int) -> npt.NDArray[np.int64]:
    """Return flat positions of the shown points, ascending."""
    size = comparison.predicted.size
    if size <= SHOWN:
        return np.arange(size)
    return np.sort(np.random.default_rng(seed).choice(size, SHOWN, replace=False))


def _numbers(subject: Subject, number: int, comparison: Comparison, seed: int) -> list[dict[str, object]]:
    entries = comparison.predicted.shape[1]
    return [
        {
            **subject.columns,
            "proposition": number,
            "image": int(position) // entries,
            "entry": int(position) % entries,
            "predicted_std": float(comparison.predicted.flat[position]),
            "measured_std": float(comparison.measured.flat[position]),
            "r_squared_of_all": comparison.r_squared,
            "largest_relative_deviation_of_all": comparison.largest_deviation,
        }
        for position in _chosen(comparison, seed)
    ]


def _picture(titles: Sequence[str], compared: Sequence[Sequence[Comparison]], seed: int) -> Figure:
    picture = Figure(figsize=(WIDTH, 2.9 * len(titles) + 0.3), dpi=DPI, layout="constrained")
    rows = picture.subplots(len(titles), 3, squeeze=False)
    for title, panels, three in zip(titles, rows, compared, strict=True):
        for number, (panel, comparison) in enumerate(zip(panels, three, strict=True), 1):
            # The gradients of parameters span decades; the values of logits lie between √((C − 1)/C) and √C.
            _scatter(panel, comparison, seed, logarithmic=number != 2)
            panel.set_title(wrapped(panel, f"{title}\nProposition {number}"), fontsize=9)
            panel.set_xlabel("predicted std for σ = 1")
        panels[0].set_ylabel("measured std for σ = 1")
    return picture


def _scatter(panel: Axes, comparison: Comparison, seed: int, logarithmic: bool) -> None:
    at = _chosen(comparison, seed)
    x, y = comparison.predicted.flat[at], comparison.measured.flat[at]
    if logarithmic:
        both = (x > 0) & (y > 0)  # the axis has no zero
        x, y = x[both], y[both]
    panel.plot(x, y, "o", color="#0072B2", markersize=2.5, alpha=0.5, markeredgewidth=0, rasterized=True)
    if len(x):
        ends = [min(x.min(), y.min()), max(x.max(), y.max())]
        panel.plot(ends, ends, color="#D55E00", linewidth=1, linestyle="dashed")
    if logarithmic and len(x):
        panel.set(xscale="log", yscale="log")
    said = f"R² = {comparison.r_squared:.4f}\nlargest deviation {comparison.largest_deviation:.1%}"
    panel.text(0.04, 0.96, said, transform=panel.transAxes, va="top", fontsize=8)


def _remark(subject: Subject, three: Sequence[Comparison]) -> str:
    lines = [f"{subject.title}, seed {subject.finished.result.seed}:"]
    for name, comparison in zip(NAMES, three, strict=True):
        line = f"  {name}: R² {comparison.r_squared:.4f}, largest relative deviation {comparison.largest_deviation:.1%}"
        if silent := int((comparison.predicted == 0).sum()):
            share = silent / comparison.predicted.size
            line += f"; {share:.0%} of the values are predicted to be 0, there at most {comparison.unpredicted:.2g}"
        lines.append(line)
    return "\n".join(lines)
