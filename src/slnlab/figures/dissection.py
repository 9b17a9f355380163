"""Training samples in the order of their loss, dissected into four kinds: the paper's Figs. 4 and 9."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from slnlab.errors import ConfigError
from slnlab.figures.style import grid, place_legend, save, style, wrapped
from slnlab.figures.subjects import Subject, add_weights_argument, at_least, in_a_row, panel_titles
from slnlab.figures.training_samples import TrainingSamples, judged_samples

INTERVALS = 50

KINDS: dict[tuple[bool, bool], dict[str, Any]] = {
    (True, True): {"facecolor": "#0072B2"},
    (True, False): {"facecolor": "#56B4E9", "hatch": "////"},
    (False, True): {"facecolor": "#E69F00"},
    (False, False): {"facecolor": "#D55E00", "hatch": "////"},
}
"""(given label correct, prediction correct) → its look, from the bottom. Blue: correct labels; hatched: wrong
predictions."""

_WORDS = {True: "correct", False: "wrong"}


class Dissection(NamedTuple):
    """The samples of a run in the order of their loss.

    Args:
        sizes: (K,) int64, samples in each of K intervals; they differ by at most one.
        shares: (K, 4), share of each of `KINDS` in an interval, in [0, 1].
        purity: share of correct labels among the half of the samples with the smallest loss, in [0, 1].
        correct: share of correct labels among all samples, in [0, 1].
    """

    sizes: npt.NDArray[np.int64]
    shares: npt.NDArray[np.float64]
    purity: float
    correct: float


def figure(
    runs: Sequence[Path], out: Path, intervals: int = INTERVALS, weights: str | None = None, where: Sequence[str] = ()
) -> list[str]:
    """Draw the shares of four kinds of samples in intervals of equally many samples, from the smallest loss.

    A kind is: given label correct or wrong, true label predicted or not. Each configuration has a panel with the mean
    over its runs.

    Args:
        runs: searched for finished runs.
        out: folder for `dissection.png`, `dissection.svg` and `dissection.csv`, which has a line per run and interval.
        intervals: K ≥ 2, at most the number of training samples.
        weights: see `add_weights_argument`.
        where: conditions on the runs, see `slnlab.tables.selection`.

    Returns:
        Remarks on runs that are not drawn, and the purity of the half with the smallest loss.

    Raises:
        ConfigError: `intervals` is out of range, a condition cannot be read, or no run has these weights.
        DataError: no finished run has samples with correct and with wrong labels, or a file cannot be written.
    """
    at_least(2, intervals=intervals)
    judged, remarks = judged_samples(runs, weights, where)
    for same, found in judged:
        for subject, samples in zip(same, found, strict=True):
            if intervals > len(samples.loss):
                path = subject.finished.directory.path
                raise ConfigError(f"intervals: must be at most the {len(samples.loss)} samples of {path}")
    dissected = [(same, [dissect(each, intervals) for each in found]) for same, found in judged]
    with style():
        numbers = [
            line
            for same, found in dissected
            for subject, one in zip(same, found, strict=True)
            for line in _numbers(subject, one)
        ]
        save(_picture(dissected), out, "dissection", numbers)
    return [*remarks, *(_remark(same[0], found) for same, found in dissected)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `figure`."""
    add_weights_argument(parser)
    parser.add_argument(
        "--intervals",
        type=int,
        default=INTERVALS,
        metavar="K",
        help=f"intervals of equally many samples; default: {INTERVALS}, a thousand of CIFAR-10's each",
    )


def dissect(samples: TrainingSamples, intervals: int) -> Dissection:
    """Sort by loss, and by the margin where losses are equal, then count the kinds in each interval."""
    order = np.lexsort((-samples.margin, samples.loss))
    label, prediction = samples.label_correct[order], samples.prediction_correct[order]
    parts = np.array_split(np.arange(len(order)), intervals)
    shares = [[float(((label == a) & (prediction == b))[part].mean()) for a, b in KINDS] for part in parts]
    half = label[: (len(label) + 1) // 2]
    return Dissection(
        np.array([len(part) for part in parts]), np.array(shares), float(half.mean()), float(label.mean())
    )


def _numbers(subject: Subject, found: Dissection) -> list[dict[str, object]]:
    return [
        {
            **subject.columns,
            "interval": number,
            "samples": int(size),
            **{
                f"label_{_WORDS[label]}_prediction_{_WORDS[prediction]}": float(share)
                for (label, prediction), share in zip(KINDS, shares, strict=True)
            },
            "small_loss_half_purity": found.purity,
            "correct_labels": found.correct,
        }
        for number, (size, shares) in enumerate(zip(found.sizes, found.shares, strict=True), 1)
    ]


def _picture(dissected: Sequence[tuple[list[Subject], list[Dissection]]]) -> Figure:
    first = [same[0] for same, _ in dissected]
    titles = panel_titles(first)
    picture, panels = grid(len(titles), "share of the samples (%)", in_a_row(first), sharey=True)
    legend = {}
    for panel, title, (_, found) in zip(panels, titles, dissected, strict=True):
        shares = 100 * np.mean([each.shares for each in found], axis=0)
        tops = np.cumsum(shares, axis=1)
        edges = np.arange(len(shares) + 1)
        for column, ((label, prediction), look) in enumerate(KINDS.items()):
            bottom = tops[:, column] - shares[:, column]
            kind = f"label {_WORDS[label]}, prediction {_WORDS[prediction]}"
            legend[kind] = panel.stairs(
                tops[:, column], edges, baseline=bottom, fill=True, edgecolor="white", linewidth=0, **look
            )
        panel.set(title=wrapped(panel, title), xlabel="interval (loss →)", xlim=(0, edges[-1]), ylim=(0, 100))
        panel.grid(False)
    place_legend(picture, legend)
    return picture


def _remark(subject: Subject, found: Sequence[Dissection]) -> str:
    where = f"{subject.group.first.data}, {subject.group.noise}"
    purity, correct = (np.mean([getattr(each, name) for each in found]) for name in ("purity", "correct"))
    return (
        f"{where}, {subject.title}: {purity:.1%} of the labels are correct in the half with the smallest loss, "
        f"{correct:.1%} in all"
    )
