"""The training labels ranked by what trained weights think of them: `label_issues.csv`, and how far to trust it.

Nothing here sees a test set or a true label.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from slnlab.record.result import LabelIssues, LabelVerdict, ResultRow

Columns = Mapping[str, npt.NDArray[Any]]
"""Of `samples.npz`: `index`, `given`, for each row its loss, prediction and margin, and of images from files
`path`, in bytes and as the data set says it: relative to its root."""

PREFERRED = ("ensemble", "momentum")
"""Averages, of logits or of weights, rank labels better than one network."""

LAGS = 0.1
"""The share of the first weights in a momentum model, decay to the power of steps, above which it lags if it agrees
with fewer labels than its network. Fewer alone is no lag: a network that has memorised agrees with more than both."""

MEMORISED = 0.98
"""The agreement from which wrong labels are learned by heart, or nearly absent: ten popular test sets have 3.3 % wrong
labels on average (Northcutt et al. 2021, Pervasive label errors)."""

GAP = 0.05
"""Of the agreement with trained and with held-out labels: twice the standard error of a hundred held-out labels or so.
Less is no sign of memorising: where nearly all labels are right, both agreements are nearly 1."""


def chosen_judge(rows: Mapping[str, ResultRow], first_weights: float = 0.0) -> tuple[str, str]:
    """Who judges the labels, and why.

    1. `best`, whose weights were chosen on held-out labels.
    2. Where there is a clean validation set, or else held-out noisy labels: who is right most often there.
    3. Otherwise the ensemble, or the momentum model unless it lags (see `LAGS`), or the first network.

    Args:
        rows: those with weights, by name, as the finished run found them.
        first_weights: the share in [0, 1] of its first weights in a momentum model.

    Returns:
        (name, reason).
    """
    names = sorted(rows, key=lambda name: PREFERRED.index(name) if name in PREFERRED else len(PREFERRED))
    if len(names) == 1:
        return names[0], "there is no other"
    if "best" in names:
        return "best", "its weights were the best on held-out labels"
    for key, labels in (("clean_val_accuracy", "clean validation"), ("noisy_val_accuracy", "held-out noisy")):
        held_out = {name: found.last for name in names if (found := getattr(rows[name], key))}
        if held_out:
            name = max(held_out, key=held_out.__getitem__)  # the preferred one of equals
            return name, f"it predicts {_percent(held_out[name])} of the {labels} labels, the most"
    agreement = {name: rows[name].findings.given_accuracy for name in names}
    if names[0] == "momentum" and first_weights > LAGS and agreement["momentum"] < agreement["network"]:
        behind, ahead = _percent(agreement["momentum"]), _percent(agreement["network"])
        lagging = f"{rows['momentum'].title} lags: {_percent(first_weights)} of it are its first weights"
        return "network", f"{lagging}, and it agrees with {behind} of the labels instead of {ahead}"
    return names[0], "an average is preferred to one network" if names[0] in PREFERRED else "it is the first"


def label_verdict(agreement: float, commonest: float, held_out: float | None) -> LabelVerdict:
    """How far the list of suspected labels can be trusted.

    Args:
        agreement: the fraction of the given training labels that the judge predicts.
        commonest: the fraction that has the commonest given label: what a constant prediction agrees with.
        held_out: the judge's accuracy on held-out noisy labels; None: none were held out.

    Returns:
        "undertrained": it agrees with less than half of the labels, or with no more than a constant prediction.
        "memorised": it agrees with `MEMORISED` of them or more; or, where labels were held out, it disagrees less than
        half as often with those that it was trained on, and `GAP` less often.
        "usable": neither.
    """
    if agreement < 0.5 or agreement <= commonest:
        return "undertrained"
    if held_out is None:
        return "memorised" if agreement >= MEMORISED else "usable"
    return "memorised" if agreement > (1 + held_out) / 2 and agreement - held_out > GAP else "usable"


def label_warning(issues: LabelIssues, label: str) -> str | None:
    """What to tell the user of a list that is not "usable".

    Args:
        issues: the list.
        title: of its row.
    """
    held_out = "" if issues.held_out is None else f" and with {_percent(1 - issues.held_out)} of those held out"
    said = f"{label} disagrees with {_percent(1 - issues.agreement)} of its training labels{held_out}"
    if issues.verdict == "memorised":
        right = ", or nearly all are right" if issues.held_out is None else ""  # those held out tell the two apart
        return (
            f"{said}: it has learned labels by heart{right}. The order in label_issues.csv still says something, the "
            "number of suspected labels does not. A larger sln.sigma, fewer epochs, method=sln_mo_lc or "
            "method=early_stopping memorise less"
        )
    if issues.verdict == "undertrained":
        return (
            f"{said}: it has trained too little, or most labels are wrong. Do not trust the suspected labels in "
            "label_issues.csv; more epochs or another optimizer.lr may help"
        )
    return None


def write_label_issues(file: BinaryIO, columns: Columns, judge: str, classes: Sequence[str] | None) -> int:
    """A line for every sample that the run has trained on, the likeliest mistake first.

    Left out are samples that were held out, and with balanced sampling those outside the first epoch.

    The columns, named as cleanlab names them where it has them:

    - `rank`: from 1.
    - `index`, and of an image from a file `path`.
    - `given_label`, `predicted_label`: by name where there are names.
    - `label_quality`: p / (p + q) in [0, 1], p the probability of the given label and q the largest of another.
    - `is_label_issue`: True where the prediction is another label, which is where `label_quality` is below 0.5.

    Ranked is by the margin log(p / q) of the logits, which still tells labels apart whose `label_quality` is 1.

    Args:
        file: to write to.
        columns: see `Columns`.
        judge: name of a row: whose predictions.
        classes: names of the classes.

    Returns:
        How many are suspected.
    """
    margin, predicted, given = columns[f"{judge}_margin"], columns[f"{judge}_prediction"], columns["given"]
    suspected = predicted != given
    order = np.lexsort((margin, ~suspected))  # the margin alone does not say who wins a tie of logits
    quality = 1 / (1 + np.exp(-margin.astype(np.float64).clip(-700, 700)))
    name = classes.__getitem__ if classes else str
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    places = [key for key in ("index", "path") if key in columns]
    writer.writerow(["rank", *places, "given_label", "predicted_label", "label_quality", "is_label_issue"])
    for rank, row in enumerate(order.tolist(), 1):
        where = [os.fsdecode(value) if isinstance(value := columns[key][row], bytes) else value for key in places]
        labels = name(given[row]), name(predicted[row])
        writer.writerow([rank, *where, *labels, f"{quality[row]:.6g}", bool(suspected[row])])
    file.write(text.getvalue().encode("utf-8", "surrogateescape"))  # a file's name need not be UTF-8
    return int(suspected.sum())


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"
