"""The training labels that trained weights do not agree with: `label_issues.csv`, the likeliest mistakes first."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

Columns = Mapping[str, npt.NDArray[Any]]
"""Of `samples.npz`: `index`, `given`, for each evaluator its loss and prediction, and of images from files `path`, in
bytes and as the data set says it: relative to its root."""


def best_informed(evaluators: Collection[str]) -> str:
    """The evaluator whose word counts: two networks together, else weights that are an average, else a network's.

    >>> best_informed(["network", "momentum"])
    'momentum'
    """
    return next(name for name in ("ensemble", "momentum", "best", *evaluators) if name in evaluators)


def write_label_issues(file: BinaryIO, columns: Columns, evaluator: str, classes: Sequence[str] | None) -> int:
    """A line for every training sample that is predicted to be of another class than its label says.

    Samples are those that the run has trained on: not what it held out, and with balanced sampling those of its first
    epoch.

    Its columns are the sample's `index` and, of an image from a file, `path`; `given_label` and `predicted_label`, by
    name where there are names; `label_quality`, the probability in [0, 1] that is left to the given label (the
    *self-confidence* of confident learning, Northcutt et al. 2021), ascending.

    Args:
        file: to write to.
        columns: see `Columns`.
        evaluator: whose predictions.
        classes: names of the classes.

    Returns:
        How many there are.
    """
    loss, predicted, given = columns[f"{evaluator}_loss"], columns[f"{evaluator}_prediction"], columns["given"]
    issues = (predicted != given).nonzero()[0]
    issues = issues[np.argsort(-loss[issues], kind="stable")]
    name = classes.__getitem__ if classes else str
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    places = [key for key in ("index", "path") if key in columns]
    writer.writerow([*places, "given_label", "predicted_label", "label_quality"])
    for row in issues.tolist():
        where = [os.fsdecode(value) if isinstance(value := columns[key][row], bytes) else value for key in places]
        writer.writerow([*where, name(given[row]), name(predicted[row]), f"{np.exp(-loss[row]):.4g}"])
    file.write(os.fsencode(text.getvalue()))  # a file's name need not be UTF-8
    return len(issues)
