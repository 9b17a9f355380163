"""Named scores that rank training labels, the likeliest wrong label first, and how well they find wrong labels.

Every score is computed during training or by the judge's weights, see `slnlab.callbacks.dynamics`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[Any]

Columns = Mapping[str, Column]
"""Columns of `samples.npz`."""


class Rule(NamedTuple):
    """A way to rank labels by one column."""

    column: str
    """Column of `samples.npz`; `{}` stands for the judge's name."""
    low_is_wrong: bool
    """True if a low value makes the label suspicious."""
    says: str
    logarithm: bool = False
    """True for a probability, whose −log is split in two: two Gaussians fit it better."""


RULES = {
    "aum": Rule("aum", True, "mean margin over the epochs (Pleiss et al. 2020)"),
    "ema_loss": Rule("ema_loss", False, "moving average of the loss over the epochs"),
    "mean_probability": Rule(
        "probability_mean", True, "mean probability of the label over the epochs (data map)", True
    ),
    "spread": Rule("probability_std", True, "standard deviation of that probability (data map)"),
    "forgetting": Rule("forgetting", False, "times the label was forgotten; never learned: first (Toneva et al. 2019)"),
    "label_changes": Rule("label_changes", False, "epochs in which the prediction changed"),
    "loss": Rule("{}_loss", False, "final loss of the judge"),
    "margin": Rule("{}_margin", True, "final margin of the judge"),
    "threshold_margin": Rule(
        "threshold_margin", True, "mean margin above that of samples with a surely wrong label (Pleiss et al. 2020)"
    ),
    "fold_loss": Rule("fold_loss", False, "loss of a network that has not seen the label"),
    "confident_learning": Rule("confident_learning", True, "normalised margin of cleanlab, of the judge's softmax"),
}
"""Scores by name; see `NEEDS`. The last one also needs cleanlab."""


RANKING = "mean_probability"
"""The score that ranks and cuts by default. It ranks best where the network has memorised the labels, and elsewhere it
is near the best score (`experiments/diagnosis`)."""

OF_FOLDS = "fold_loss"
"""The default with folds. cleanlab calls the same order self-confidence."""


OF_THRESHOLD = "threshold_margin"
"""The default with threshold samples; 0 is its cut."""

NEEDS = {OF_FOLDS: "--folds", OF_THRESHOLD: "--threshold-samples", "confident_learning": "the training images"}
"""Score → what it needs beside the run."""


def suspicion(columns: Columns, judge: str) -> dict[str, Column]:
    """The scores (N,) by name, signed so that a high value is suspicious; without rules that lack their column.

    A sample that training never saw has NaN in its dynamics; it gets the lowest suspicion.

    Args:
        columns: of `samples.npz`.
        judge: name of the row whose final weights count.
    """
    found = {}
    for name, rule in RULES.items():
        column = columns.get(rule.column.format(judge))
        if column is not None:
            values = np.asarray(column, dtype=np.float64)
            if rule.logarithm:
                values = np.log(np.maximum(values, np.finfo(np.float32).tiny))
            found[name] = np.nan_to_num(-values if rule.low_is_wrong else values, nan=-np.inf, posinf=np.inf)
    return found


def ranked(suspicions: Column, tie_break: Column) -> Column:
    """Rows in descending order of suspicion.

    Args:
        suspicions: (N,).
        tie_break: (N,), orders equal suspicions, also descending.
    """
    order: Column = np.lexsort((-tie_break, -suspicions))
    return order


class Quality(NamedTuple):
    """How well a score finds wrong labels. Values lie in [0, 1]."""

    auroc: float
    average_precision: float
    precision_at_100: float
    """Share of wrong labels among the 100 most suspicious samples, or among all of fewer samples."""
    precision_at_cut: float | None
    """The same for as many samples as the cut suspects; None if it suspects none."""
    recall_at_cut: float | None
    """Share of the wrong labels that are among them."""


def quality(suspicions: Column, wrong: Column, count: int) -> Quality | None:
    """The quality of a score; None if no label or every label is wrong.

    Args:
        suspicions: (N,), high: suspicious. Infinite values are ranks beyond all finite ones.
        wrong: (N,) bool.
        count: number of suspected samples.
    """
    from scipy.stats import rankdata
    from sklearn.metrics import average_precision_score, roc_auc_score

    if wrong.all() or not wrong.any():
        return None
    ranks = rankdata(suspicions)  # scikit-learn refuses infinite scores
    hits = wrong[np.argsort(-ranks, kind="stable")]
    return Quality(
        auroc=float(roc_auc_score(wrong, ranks)),
        average_precision=float(average_precision_score(wrong, ranks)),
        precision_at_100=float(hits[:100].mean()),
        precision_at_cut=float(hits[:count].mean()) if count else None,
        recall_at_cut=float(hits[:count].sum() / wrong.sum()) if count else None,
    )
