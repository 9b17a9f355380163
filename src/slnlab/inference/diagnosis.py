"""The diagnosis of a finished run: which of its training labels are wrong, how many, and how well that is known."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from slnlab.analysis.confident import confident_count, confident_margin
from slnlab.analysis.label_issues import label_verdict, label_warning
from slnlab.analysis.noise_estimate import NoiseEstimate, Share, estimate_noise
from slnlab.analysis.scores import NEEDS, OF_FOLDS, OF_THRESHOLD, RANKING, RULES, Quality, quality, ranked, suspicion
from slnlab.data.source import made_source, stated
from slnlab.errors import ConfigError, DataError, SlnlabError
from slnlab.inference.images import training_probabilities
from slnlab.inference.trained_run import TrainedRun
from slnlab.schema.constructors import class_variable
from slnlab.storage.tables import csv_bytes
from slnlab.storage.writing import replacing


class Unseen(NamedTuple):
    """Labels that a network had not seen when it judged them: out of fold, or held out (`data.noisy_val`).

    At most about the contradicted share is wrong, if the network repeats no wrong label: with P(contradicted | wrong)
    = 1 it is this share less P(right) P(contradicted | right). Noise that follows the image breaks the rule.
    """

    labels: int
    contradicted: float
    """Share of them, in [0, 1], of which the network predicts another class."""

    def __str__(self) -> str:
        return (
            f"of {self.labels:,} labels that it had not seen, a network contradicts {100 * self.contradicted:.0f} %; "
            "hardly more are wrong, unless it repeats wrong labels, as where they follow from the image"
        )


class Diagnosis(NamedTuple):
    """The training labels of a run, scored."""

    run: TrainedRun
    score: str
    """Name of the score that ranks the samples."""
    columns: Mapping[str, npt.NDArray[Any]]
    """`run.samples`, with `confident_learning` where it could be computed, `line` of a list of images (0: no longer
    there), and `verdict` where people judged labels of the data set: 1 wrong, 0 right, -1 not judged."""
    suspicions: dict[str, npt.NDArray[Any]]
    """Scores (N,) by name, high: suspicious."""
    estimate: NoiseEstimate
    order: npt.NDArray[Any]
    """Rows (N,), the likeliest wrong label first."""
    suggested: npt.NDArray[Any]
    """(N,): the class that the judge prefers to all but the given one."""
    remarks: list[str]
    """What a reader must know about the list."""
    confident_count: int | None = None
    """cleanlab's number of wrong labels, out of fold; None without folds."""
    unseen: Unseen | None = None
    """None without folds and without held-out noisy labels."""

    @property
    def judge(self) -> str:
        """Title and name of the weights that judge."""
        return f"{self.run.result.rows[self.run.weights].title} ({self.run.weights})"

    @property
    def known(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]] | None:
        """Rows (M,) whose labels are known to be wrong or right, and True for wrong ones; None: unknown.

        All rows with true labels; else those that people judged.
        """
        if "wrong" in self.columns:
            return np.arange(len(self.order)), self.columns["wrong"]
        if "verdict" in self.columns:
            rows = np.flatnonzero(self.columns["verdict"] >= 0)
            return rows, self.columns["verdict"][rows] == 1
        return None

    def qualities(self) -> dict[str, Quality]:
        """The quality of each score on `known`; empty if nothing is known, or all or none of these labels are wrong."""
        if self.known is None:
            return {}
        rows, wrong = self.known
        count = int(self.estimate.suspected[rows].sum())
        each = {name: quality(values[rows], wrong, count) for name, values in self.suspicions.items()}
        return {name: found for name, found in each.items() if found is not None}


def diagnose(
    run: TrainedRun,
    score: str | None = None,
    images: bool = True,
    outside: npt.NDArray[np.float32] | None = None,
    margin: npt.NDArray[np.float64] | None = None,
) -> Diagnosis:
    """Score all training labels of a run.

    Args:
        run: its weights judge.
        score: a name in `RULES`, which ranks the samples and is split in two; None: the default.
        images: pass the training images once through the network, for confident learning.
        outside: probabilities (N, C) by networks that have not seen the label, see `slnlab.inference.folds`. They
            serve confident learning, `fold_loss`, and the suggested labels. None: there are none.
        margin: (N,), see `slnlab.inference.threshold`; None: there are no threshold samples.

    Raises:
        ConfigError: the score does not exist, or the images or folds are needed for it.
        DataError: `samples.npz` cannot be read or lacks the training dynamics.
    """
    if score is None:
        score = OF_THRESHOLD if margin is not None else OF_FOLDS if outside is not None else RANKING
    if score not in RULES:
        raise ConfigError(f"score: there is no {score!r}; the scores are {', '.join(RULES)}")
    columns, remarks = dict(run.samples), list[str]()
    if "aum" not in columns:
        raise DataError(f"{run.directory / 'samples.npz'}: has no training dynamics; train the run again (force=true)")
    given, suggested, count = columns["given"], columns[f"{run.weights}_other"], None
    if outside is not None:
        rows = np.arange(len(given))
        columns["fold_loss"] = -np.log(np.maximum(outside[rows, given], np.finfo(np.float32).tiny))
        columns["fold_prediction"] = outside.argmax(1)
        others = outside.copy()
        others[rows, given] = -1
        suggested = others.argmax(1)
    if margin is not None:
        columns["threshold_margin"] = margin
    if images or outside is not None:
        try:
            judged = training_probabilities(run).numpy() if outside is None else outside
            columns["confident_learning"] = confident_margin(given, judged)
            count = None if outside is None else confident_count(given, outside)
        except SlnlabError as error:
            if score == "confident_learning":
                raise
            remarks.append(f"without confident learning: {error}")
    try:
        if "wrong" not in columns and (people := _stated(run, "verdicts")):
            columns["verdict"] = np.array([1 - people.get(path, 2) for path in columns["path"]], np.int8)
        if lines := _stated(run, "lines"):
            columns["line"] = np.array([lines.get(path, 0) for path in columns["path"]])
    except SlnlabError as error:
        remarks.append(f"without human verdicts or lines of a list: {error}")
    suspicions = suspicion(columns, run.weights)
    if score not in suspicions:
        raise ConfigError(f"score: {score} needs {NEEDS[score]}")
    issues = run.result.label_issues
    if (
        outside is None
        and issues is not None
        and (warning := label_warning(issues, run.result.rows[issues.judge].title))
    ):
        remarks.append(warning)
    if outside is None and class_variable(run.config.method._target_, "trusts_itself"):
        remarks.append(
            f"the interval of the share may be too narrow: {run.config.method.title} makes its network sure of what it "
            "predicts, also where it has taken over a wrong label; that of method=ce or sln_mo_lc holds the truth more "
            "often"
        )
    estimate = estimate_noise(suspicions[score], given, suggested, len(run.classes))
    if score == OF_THRESHOLD:
        estimate = estimate._replace(cut=columns["threshold_margin"] <= 0)
    order = ranked(suspicions[score], suspicions["margin"])
    unseen = _unseen(run, columns)
    if unseen is not None:
        remarks += _remarks_on_unseen(unseen, given, estimate, out_of_fold=outside is not None)
    return Diagnosis(run, score, columns, suspicions, estimate, order, suggested, remarks, count, unseen)


def _unseen(run: TrainedRun, columns: Mapping[str, npt.NDArray[Any]]) -> Unseen | None:
    if "fold_prediction" in columns:
        return Unseen(len(columns["given"]), float((columns["fold_prediction"] != columns["given"]).mean()))
    held_out = run.result.rows[run.weights].noisy_val_accuracy
    return Unseen(run.config.data.noisy_val, 1 - held_out.best.accuracy) if held_out else None


def _remarks_on_unseen(
    unseen: Unseen, given: npt.NDArray[Any], estimate: NoiseEstimate, out_of_fold: bool
) -> Iterator[str]:
    agreement, commonest = 1 - unseen.contradicted, float(np.bincount(given).max() / len(given))
    if out_of_fold and label_verdict(agreement, commonest, None) == "undertrained":
        yield (
            f"the networks disagree with {100 * unseen.contradicted:.1f} % of the labels that they had not seen: they "
            "have learned too little, or most labels are wrong. Do not trust the suspected labels; more epochs or "
            "another optimizer.lr may help"
        )
    elif estimate.rate.low > unseen.contradicted:
        yield (
            "the estimated share of wrong labels is above the share that a network contradicts, so it is probably too "
            "high: hard samples look like wrong labels"
        )


def _stated(run: TrainedRun, what: Literal["verdicts", "lines"]) -> Mapping[str, int]:
    """What the run's data set states about its image files, by path; empty if it states nothing.

    `verdicts` of people are True for a right label; `lines` are those of the images in a list, from 1.
    """
    return stated(made_source(run.config), what)


def reason(diagnosis: Diagnosis, row: int) -> str:
    """Why this label is suspected or not, in words."""
    columns, run = diagnosis.columns, diagnosis.run
    given, suggested = (run.classes[labels[row]] for labels in (columns["given"], diagnosis.suggested))
    if "fold_prediction" in columns:
        words = [f"predicted as {run.classes[columns['fold_prediction'][row]]} by a network that has not seen it"]
    elif columns[f"{run.weights}_margin"][row] < 0:
        words = [f"predicted as {suggested} now"]
    else:
        words = [f"predicted as {given} now, {suggested} comes next"]
    if columns["epochs_seen"][row]:
        words.append(f"{given} had a mean probability of {columns['probability_mean'][row]:.2f} during training")
        forgotten = columns["forgetting"][row]
        if np.isinf(forgotten):
            words.append(f"{given} was never predicted")
        elif forgotten:
            words.append(f"forgotten {forgotten:.0f} {'times' if forgotten > 1 else 'time'}")
    return "; ".join(words)


def write_issues(diagnosis: Diagnosis, path: Path) -> None:
    """Write `issues.csv`: a line per training sample, the likeliest wrong label first.

    The columns are `rank`, `index`, `path` (images from files), `line` (of a list of images; 0: no longer there),
    `given_label`, `suggested_label`, `wrong_probability` in [0, 1], `suspected`, each score of `RULES` as it was
    computed, and `reason`.

    Raises:
        DataError: the file cannot be written.
    """
    run, columns = diagnosis.run, diagnosis.columns
    scores = {name: columns[RULES[name].column.format(run.weights)] for name in diagnosis.suspicions}
    places = [name for name in ("index", "path", "line") if name in columns]
    estimate = diagnosis.estimate
    labels = ["given_label", "suggested_label", "wrong_probability", "suspected"]
    rows: list[list[object]] = [["rank", *places, *labels, *scores, "reason"]]
    for rank, row in enumerate(diagnosis.order.tolist(), 1):
        given, suggested = (run.classes[of[row]] for of in (columns["given"], diagnosis.suggested))
        rows.append(
            [
                *(rank, *(columns[place][row] for place in places), given, suggested),
                *(f"{estimate.wrong[row]:.4g}", bool(estimate.suspected[row])),
                *(f"{values[row]:.6g}" for values in scores.values()),
                reason(diagnosis, row),
            ]
        )
    with replacing(path) as file:
        file.write(csv_bytes(rows))


def summary(diagnosis: Diagnosis) -> dict[str, Any]:
    """The diagnosis as plain JSON. Shares lie in [0, 1]; each has an interval from `low` to `high`."""
    estimate, run = diagnosis.estimate, diagnosis.run

    def plain(share: Share | None) -> dict[str, float] | None:
        return None if share is None else share._asdict()

    return {
        "run": str(run.directory),
        "judge": run.weights,
        "score": diagnosis.score,
        "samples": len(diagnosis.order),
        "suspected": int(estimate.suspected.sum()),
        "precision": estimate.precision,
        "confident_count": diagnosis.confident_count,
        "unseen": None if diagnosis.unseen is None else diagnosis.unseen._asdict(),
        "wrong": plain(estimate.rate),
        "wrong_of_given": {name: plain(share) for name, share in zip(run.classes, estimate.of_given, strict=True)},
        "transition": estimate.transition.tolist(),
        "qualities": {name: found._asdict() for name, found in diagnosis.qualities().items()},
        "remarks": diagnosis.remarks,
    }


def write_summary(diagnosis: Diagnosis, path: Path) -> None:
    """Write `summary` as JSON.

    Raises:
        DataError: the file cannot be written.
    """
    with replacing(path) as file:
        file.write((json.dumps(summary(diagnosis), indent=2) + "\n").encode())
