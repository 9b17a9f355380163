"""`label_issues.csv`: training labels ranked by the training, judged by its weights, and how far to trust the list.

This module sees neither test samples nor true labels.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from slnlab.analysis.scores import RANKING, RULES, ranked, suspicion
from slnlab.record.result import LabelIssues, LabelVerdict, ResultRow
from slnlab.storage.tables import csv_bytes

Columns = Mapping[str, npt.NDArray[Any]]
"""Columns of `samples.npz`: `index`, `given`, `probability_mean`, each row's loss, prediction and margin, and for
images from files `path`, as bytes relative to the root of the data set."""

PREFERRED = ("best", "ensemble", "momentum")
"""Preferred judges among equals. Averages of logits or of weights rank labels better than one network."""

LAGS = 0.1
"""Share of the first weights in a momentum model (decay to the power of steps) above which it lags, if it also agrees
with fewer labels than its network. Fewer agreements alone may mean that the network has memorised more."""

MEMORISED = 0.98
"""Agreement from which wrong labels are memorised or nearly absent: ten popular test sets have 3.3 % wrong labels on
average (Northcutt et al. 2021, Pervasive label errors)."""

GAP = 0.05
"""Least gap between the agreement with trained and with held-out labels that shows memorisation: about twice the
standard error of a hundred held-out labels. Where nearly all labels are right, both agreements are nearly 1."""


def chosen_judge(rows: Mapping[str, ResultRow], first_weights: float = 0.0) -> tuple[str, str]:
    """The weights that judge the labels: the first of these rules that applies.

    1. The weights most accurate on a clean validation set, or else on held-out noisy labels.
    2. The weights of the epoch that Label Wave has chosen, if they were kept.
    3. The ensemble, the momentum model unless it lags (see `LAGS`), or the first network.

    Args:
        rows: results of a finished run by name, at least one.
        first_weights: share of the first weights in a momentum model, in [0, 1].

    Returns:
        (name of the row, reason).
    """
    names = sorted(rows, key=lambda name: PREFERRED.index(name) if name in PREFERRED else len(PREFERRED))
    if len(names) == 1:
        return names[0], "there is no other"
    for key, labels in (("clean_val_accuracy", "clean validation"), ("noisy_val_accuracy", "held-out noisy")):
        held_out = {name: found.last for name in names if (found := getattr(rows[name], key))}
        if held_out:
            name = max(held_out, key=held_out.__getitem__)  # among equals the preferred judge
            return name, f"it predicts {_percent(held_out[name])} of the {labels} labels, the most"
    if names[0] == "best":
        return "best", "Label Wave has chosen its epoch"
    agreement = {name: rows[name].findings.given_accuracy for name in names}
    if names[0] == "momentum" and first_weights > LAGS and agreement["momentum"] < agreement["network"]:
        behind, ahead = _percent(agreement["momentum"]), _percent(agreement["network"])
        lagging = f"{rows['momentum'].title} lags: {_percent(first_weights)} of it are its first weights"
        return "network", f"{lagging}, and it agrees with {behind} of the labels instead of {ahead}"
    return names[0], "an average is preferred to one network" if names[0] in PREFERRED else "it is the first"


def label_verdict(agreement: float, commonest: float, held_out: float | None) -> LabelVerdict:
    """The verdict on the list of suspected labels.

    Args:
        agreement: fraction of given training labels predicted by the judge, in [0, 1].
        commonest: fraction of the most frequent given label, the agreement of a constant prediction, in [0, 1].
        held_out: the judge's accuracy on held-out noisy labels, in [0, 1]; None without held-out labels.

    Returns:
        "undertrained": the judge agrees with less than half of the labels, or no more than a constant prediction.
        "memorised": without held-out labels, the judge agrees with `MEMORISED` or more. With held-out labels, it
        disagrees with trained labels less than half as often, and by more than `GAP` less often.
        "usable": neither.
    """
    if agreement < 0.5 or agreement <= commonest:
        return "undertrained"
    if held_out is None:
        return "memorised" if agreement >= MEMORISED else "usable"
    return "memorised" if agreement > (1 + held_out) / 2 and agreement - held_out > GAP else "usable"


def label_warning(issues: LabelIssues, title: str) -> str | None:
    """Warning about a list that is not "usable"; None for a usable list.

    Args:
        issues: summary of the list.
        title: of the judge's row.
    """
    held_out = "" if issues.held_out is None else f" and with {_percent(1 - issues.held_out)} of those held out"
    disagreement = f"{title} disagrees with {_percent(1 - issues.agreement)} of its training labels{held_out}"
    if issues.verdict == "memorised":
        right = ", or nearly all are right" if issues.held_out is None else ""  # held-out labels tell the two apart
        return (
            f"{disagreement}: it has memorised labels{right}. Trust the order in label_issues.csv, but not the number "
            "of suspected labels. A larger sln.sigma, fewer epochs, method=sln_mo_lc or method=early_stopping memorise "
            "less"
        )
    if issues.verdict == "undertrained":
        return (
            f"{disagreement}: it has trained too little, or has collapsed, or most labels are wrong. Do not trust the "
            "suspected labels in label_issues.csv; more epochs, another optimizer.lr or a smaller sln.sigma may help"
        )
    return None


def write_label_issues(file: BinaryIO, columns: Columns, judge: str, classes: Sequence[str] | None) -> int:
    """Write a line per training sample, the likeliest wrong label first.

    The list omits held-out samples and, with balanced sampling, samples outside the first epoch.

    The columns have cleanlab's names where cleanlab has them:

    - `rank`: from 1.
    - `index`, and `path` for images from files.
    - `given_label`, `predicted_label`: class names, or class numbers without names.
    - `mean_probability`: of the given label, over the epochs, in [0, 1]. It ranks the samples (`RANKING`), as it
      still finds wrong labels that the network has memorised at the end.
    - `label_quality`: p / (p + q) in [0, 1]; p is the final probability of the given label, q the largest other one.
    - `is_label_issue`: True if another label is predicted, i.e. `label_quality` is below 0.5.

    The margin log(p / q) of the final logits ranks samples of equal mean probability. A sample that the training never
    saw has no mean probability (nan), and stands last.

    Args:
        file: open for writing.
        columns: see `Columns`.
        judge: name of the row whose predictions count.
        classes: names of the C classes; None: class numbers are written.

    Returns:
        Number of suspected labels.
    """
    margin, predicted, given = columns[f"{judge}_margin"], columns[f"{judge}_prediction"], columns["given"]
    suspected = predicted != given
    suspicions = suspicion(columns, judge)
    order = ranked(suspicions[RANKING], suspicions["margin"])
    seen = columns[RULES[RANKING].column]
    quality = 1 / (1 + np.exp(-margin.astype(np.float64).clip(-700, 700)))
    name = classes.__getitem__ if classes else str
    places = [key for key in ("index", "path") if key in columns]
    judgements = ["given_label", "predicted_label", "mean_probability", "label_quality", "is_label_issue"]
    rows: list[list[object]] = [["rank", *places, *judgements]]
    for rank, row in enumerate(order.tolist(), 1):
        where = [os.fsdecode(value) if isinstance(value := columns[key][row], bytes) else value for key in places]
        labels = name(given[row]), name(predicted[row])
        rows.append([rank, *where, *labels, f"{seen[row]:.6g}", f"{quality[row]:.6g}", bool(suspected[row])])
    file.write(csv_bytes(rows))
    return int(suspected.sum())


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"
