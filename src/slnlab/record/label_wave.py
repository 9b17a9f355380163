"""Label Wave (Yuan, Feng & Liu, 2024): the epoch at which to stop, found without held-out labels.

A network that begins to memorise wrong labels changes its mind about the training samples more often. The count of
these changes therefore has its first minimum before memorising.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean

CHANGES = "train/prediction_changes"
"""Column of metrics.csv: the number PC of training samples with another prediction than in the epoch before."""

AVERAGE = 3
"""The number k of epochs in the moving average of a run."""


def stopping_epoch(rows: Sequence[dict[str, float]], average: int = AVERAGE) -> int | None:
    """The epoch of the first local minimum of A_e = (PC_{e−k+1} + … + PC_e)/k.

    This is the first epoch e with A_e < A_{e+1} after A has fallen at least once: the early rise of a network that
    still predicts few classes is no minimum, and the last of equal values is chosen. Without a minimum training would
    not have stopped, so the last epoch counts. A run in which a later epoch meets new samples (`data.per_class`) has
    no comparable counts. The predictions are those of training; methods that predict all samples at the start of an
    epoch (SSR, DivideMix, PES) are counted by these, the network as the epoch before left it.

    Args:
        rows: one per epoch, with `epoch`, and from the second epoch on with `train/prediction_changes`.
        average: number k ≥ 1 of epochs in the average.

    Returns:
        The epoch, from 1; None if a count is missing.
    """
    if len(rows) < 2 or not all(CHANGES in row for row in rows[1:]):
        return None
    counts, epochs = ([row[key] for row in rows[1:]] for key in (CHANGES, "epoch"))
    means = [fmean(counts[end - average : end]) for end in range(average, len(counts) + 1)]
    fallen = False
    for epoch, (now, following) in zip(epochs[average - 1 :], pairwise(means), strict=False):
        if fallen and now < following:
            return int(epoch)
        fallen = fallen or following < now
    return int(epochs[-1])
