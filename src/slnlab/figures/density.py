"""Density of the predicted probability of the given label, as in the paper's Fig. 3 (Claim 2: less overconfidence)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from slnlab.figures.style import grid, place_legend, save, style, wrapped
from slnlab.figures.subjects import Subject, add_weights_argument, in_a_row, panel_titles
from slnlab.figures.training_samples import TrainingSamples, judged_samples

BINS = 20
"""Equal intervals of [0, 1]. A histogram, as in the paper: a kernel estimate loses the mass at 0 and 1 beyond them."""

CONFIDENT = 0.9
"""Probability above which a prediction counts as confident."""

LOOKS: dict[str, dict[str, Any]] = {
    "correct": {"color": "#0072B2", "linestyle": "solid"},
    "wrong": {"color": "#D55E00", "linestyle": "dashed"},
}
"""Colour and line style of samples with correct and with wrong given labels."""


class Probabilities(NamedTuple):
    """The predicted probability of the given label over the samples of one kind in one run.

    Args:
        samples: their number.
        mean: in [0, 1].
        confident: share of samples above `CONFIDENT`, in [0, 1].
        density: (BINS,), share of samples per interval divided by its width.
    """

    samples: int
    mean: float
    confident: float
    density: npt.NDArray[np.float64]


def figure(runs: Sequence[Path], out: Path, weights: str | None = None, where: Sequence[str] = ()) -> list[str]:
    """Draw the density of P(given label | image) of training samples, with correct against wrong labels.

    Each configuration has a panel with the mean over its runs. The vertical lines are the mean probabilities. The
    density has a logarithmic axis, as a network that has memorised its labels has nearly all samples in one interval.

    Args:
        runs: searched for finished runs.
        out: folder for `density.png`, `density.svg` and `density.csv`, which has a line per run, kind of label and
            interval.
        weights: see `add_weights_argument`.
        where: conditions on the runs, see `slnlab.tables.selection`.

    Returns:
        Remarks on runs that are not drawn, and the mean probabilities with the shares above `CONFIDENT`.

    Raises:
        ConfigError: no run has these weights, or a condition cannot be read.
        DataError: no finished run has samples with correct and with wrong labels, or a file cannot be written.
    """
    judged, remarks = judged_samples(runs, weights, where)
    measured = [(same, [probabilities(each) for each in samples]) for same, samples in judged]
    with style():
        numbers = [
            line
            for same, found in measured
            for subject, kinds in zip(same, found, strict=True)
            for line in _numbers(subject, kinds)
        ]
        save(_picture(measured), out, "density", numbers)
    return [*remarks, *(_remark(same[0], found) for same, found in measured)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the option of `figure`."""
    add_weights_argument(parser)


def probabilities(samples: TrainingSamples) -> dict[str, Probabilities]:
    """Return the probabilities of samples with `correct` and with `wrong` given labels."""
    found = {}
    for kind, chosen in (("correct", samples.label_correct), ("wrong", ~samples.label_correct)):
        given = np.exp(-samples.loss[chosen])
        density = np.histogram(given, BINS, (0, 1))[0] * BINS / len(given)
        found[kind] = Probabilities(len(given), float(given.mean()), float((given > CONFIDENT).mean()), density)
    return found


Measured = Sequence[tuple[list[Subject], list[dict[str, Probabilities]]]]


def _numbers(subject: Subject, kinds: dict[str, Probabilities]) -> list[dict[str, object]]:
    return [
        {
            **subject.columns,
            "given_labels": kind,
            "samples": found.samples,
            "mean_probability": found.mean,
            f"share_above_{CONFIDENT:g}": found.confident,
            "from": number / BINS,
            "to": (number + 1) / BINS,
            "density": float(density),
        }
        for kind, found in kinds.items()
        for number, density in enumerate(found.density)
    ]


def _picture(measured: Measured) -> Figure:
    titles = panel_titles([same[0] for same, _ in measured])
    picture, panels = grid(len(titles), "density", in_a_row([same[0] for same, _ in measured]), sharey=True)
    legend = {}
    edges = np.linspace(0, 1, BINS + 1)
    for panel, title, (_, found) in zip(panels, titles, measured, strict=True):
        for kind, look in LOOKS.items():
            density = np.mean([each[kind].density for each in found], axis=0)
            step = panel.stairs(np.where(density > 0, density, np.nan), edges, linewidth=1.6, **look)
            legend[f"{kind} given labels (vertical line: mean)"] = step
            panel.axvline(float(np.mean([each[kind].mean for each in found])), linewidth=1, **look)
        panel.set(title=wrapped(panel, title), xlabel="probability of the given label")
        panel.set(xlim=(0, 1), xticks=[0, 0.5, 1], yscale="log")
    place_legend(picture, legend)
    return picture


def _remark(subject: Subject, found: Sequence[dict[str, Probabilities]]) -> str:
    means = (
        f"{np.mean([each[kind].mean for each in found]):.3f} for {kind} labels "
        f"({np.mean([each[kind].confident for each in found]):.1%} above {CONFIDENT:g})"
        for kind in LOOKS
    )
    where = f"{subject.group.first.data}, {subject.group.noise}"
    return f"{where}, {subject.title}: mean probability of the given label {', '.join(means)}"
