"""The training samples of finished runs as their final weights judge them. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from slnlab.errors import DataError
from slnlab.figures.subjects import Subject, subjects
from slnlab.record.samples_file import read_samples


class TrainingSamples(NamedTuple):
    """M training samples of a run, in eval mode and without augmentation.

    Args:
        loss: (M,), cross entropy against the given label, in nats.
        margin: (M,), logit of the given label minus the largest other one. It separates samples whose loss is 0.
        label_correct: (M,) bool, True if the given label describes the image.
        prediction_correct: (M,) bool, True if the true label is predicted. An image replaced by open-set noise has no
            true label, so its prediction is wrong.
    """

    loss: npt.NDArray[np.float64]
    margin: npt.NDArray[np.float64]
    label_correct: npt.NDArray[np.bool_]
    prediction_correct: npt.NDArray[np.bool_]


Judged = list[tuple[list[Subject], list[TrainingSamples]]]
"""The runs of each configuration, with their samples."""


def judged_samples(paths: Sequence[Path], weights: str | None, where: Sequence[str]) -> tuple[Judged, list[str]]:
    """Read the samples of the finished runs at or below `paths`.

    Args:
        paths: searched for finished runs.
        weights, where: see `subjects`.

    Returns:
        (the samples of each configuration with correct and wrong labels, remarks on runs that are left out).

    Raises:
        DataError: no finished run has samples with correct and with wrong labels.
        ConfigError: no run has these weights, or a condition cannot be read.
    """
    groups, remarks = subjects(paths, weights, where)
    judged: Judged = []
    for same in groups:
        found = []
        for subject in same:
            try:
                found.append((subject, read_training_samples(subject)))
            except DataError as error:
                remarks.append(f"not drawn: {error}")
        if found:
            judged.append(([subject for subject, _ in found], [samples for _, samples in found]))
    if not judged:
        raise DataError("\n  ".join(["no run can be drawn", *remarks]))
    return judged, remarks


def read_training_samples(subject: Subject) -> TrainingSamples:
    """Read the samples of one run.

    Raises:
        DataError: the run has no samples with correct and with wrong labels.
    """
    file = subject.finished.directory.samples
    loss, margin, prediction = (f"{subject.weights}_{name}" for name in ("loss", "margin", "prediction"))
    columns: dict[str, Any] = read_samples(file, needed=(loss, margin, prediction, "given"))
    if "true" not in columns or "wrong" not in columns:
        raise DataError(f"{file}: the true labels are unknown; this figure needs them, as synthetic noise has them")
    wrong = columns["wrong"]
    if wrong.all() or not wrong.any():
        raise DataError(
            f"{file}: {'all' if wrong.any() else 'none'} of the given labels are wrong; this figure compares samples "
            "with correct and with wrong labels"
        )
    replaced = wrong & (columns["true"] == columns["given"])
    return TrainingSamples(
        loss=columns[loss].astype(np.float64),
        margin=columns[margin].astype(np.float64),
        label_correct=~wrong,
        prediction_correct=(columns[prediction] == columns["true"]) & ~replaced,
    )
