"""Corrected labels as a CSV file: what a diagnosis and its reader make of the training labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from slnlab.data.datamodule import IndexedDataModule
from slnlab.data.source import stated
from slnlab.errors import ConfigError
from slnlab.inference.decisions import Decisions, droppable, place_of
from slnlab.inference.diagnosis import Diagnosis
from slnlab.inference.images import check_labels, data_of, sample_names
from slnlab.inference.trained_run import TrainedRun
from slnlab.noise import to_csv
from slnlab.storage.tables import csv_bytes
from slnlab.storage.writing import replacing
from slnlab.text.messages import quoted
from slnlab.text.quoting import override

Policy = Literal["relabel", "drop", "weight", "keep"]
"""The treatment of the chosen samples: their suggested label; left out; their given label with the weight
1 − P(wrong); their given label, so that only a person's decisions count."""


class Corrected(NamedTuple):
    """The corrected labels of the N training samples of a run, see `sample_names`."""

    run: TrainedRun
    data: IndexedDataModule
    labels: dict[str, int | None]
    """Name → label in [0, C), or None for a sample left out. Images that `data.labels` left out come last."""
    weights: dict[str, float] | None
    """Name → weight in [0, 1], where it is not 1; None: the labels have no weights."""
    relabelled: int
    """Number of samples with another label than in the run."""
    left_out: int
    """Number of samples left out by this correction."""
    earlier: int
    """Number of samples that the run had left out already, and that stay so."""
    by_votes: frozenset[str]
    """Names of unchanged samples whose targets are the shares of their annotators; a row would replace these."""
    last: int
    """Number of samples that keep their label although the policy chose them, as the last ones of their class."""

    def __str__(self) -> str:
        parts = [f"{self.relabelled:,} of {len(self.labels):,} training samples relabelled, {self.left_out:,} left out"]
        if self.last:
            parts.append(f"{self.last:,} kept as the last of their class")
        if self.weights is not None:
            parts.append(f"{len(self.weights):,} weighted")
        if self.earlier:
            parts.append(f"{self.earlier:,} left out before")
        return ", ".join(parts)


def check_request(run: TrainedRun, policy: Policy, top: int | None, precision: float | None, reviewed: bool) -> None:
    """Check a wish for corrected labels before the diagnosis takes its time.

    Args:
        run: the run with the labels.
        policy, top, precision: see `corrected`.
        reviewed: True if there are a person's decisions.

    Raises:
        ConfigError: a number is out of range, `top` and `precision` are both given, or the policy does not fit.
    """
    samples = len(run.samples["index"])
    if policy in ("drop", "weight") and not droppable(run):
        raise ConfigError(
            f"--policy {policy}: no sample of {run.config.data.name} can be left out or weighted, only of your own "
            "files (data=folder, csv, and npz or features with names); use relabel"
        )
    known = reviewed or run.config.data.get("labels") is not None
    if policy == "keep" and (not known or top is not None or precision is not None):
        raise ConfigError("--policy keep: changes reviewed labels only: give --reviewed, but no --top or --precision")
    if top is not None and precision is not None:
        raise ConfigError("--top, --precision: give one of them")
    if top is not None and not 1 <= top <= samples:
        raise ConfigError(f"--top: must lie in [1, {samples}], the number of training samples, not {top}")
    if precision is not None and not 0 < precision <= 1:
        raise ConfigError(f"--precision: must lie in (0, 1], not {precision:g}")


def check_target(run: TrainedRun, path: Path, reviewed: Path | None = None) -> None:
    """Check the file for corrected labels.

    Args:
        run: the run with the labels.
        path: the file to write.
        reviewed: the file with a person's decisions.

    Raises:
        ConfigError: its folder does not exist; no run could train with it; or this run did, or reads it, and needs it
            as it is.
    """
    config = run.config
    if not path.resolve().parent.is_dir():
        raise ConfigError(f"--write: {path}: there is no folder {path.parent}")
    if config.preset.get("own_noise") is True:
        raise ConfigError(
            f"--write: {config.data.name} trains on its published labels only; make a list of its images for "
            "data=csv, whose labels can be corrected"
        )
    if config.data.get("imbalance") and not droppable(run):
        raise ConfigError(
            f"--write: data.imbalance={config.data.imbalance:g} leaves a part of {config.data.name}, and a file "
            "without the names of its samples has the labels of the whole set"
        )
    needed = {
        "data.labels": config.data.get("labels"),
        "data.source.root": config.data.source.get("root"),
        "noise.path": config.noise.get("path"),
        "--reviewed": reviewed,
    }
    for key, file in needed.items():
        if file is not None and Path(file).expanduser().resolve() == path.resolve():
            raise ConfigError(f"--write: {path} is read as {key} and needed as it is; choose another name")


def chosen_rows(
    diagnosis: Diagnosis, top: int | None, precision: float | None, settled: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.int64]:
    """Rows (M,) of the samples that a policy treats, the likeliest wrong label first; see `corrected`.

    Args:
        diagnosis, top, precision: see `corrected`.
        settled: (N,), True for samples that no policy treats; None: there are none.

    Raises:
        ConfigError: P(wrong) of the likeliest wrong label is below `precision`.
    """
    order: npt.NDArray[np.int64] = diagnosis.order if settled is None else diagnosis.order[~settled[diagnosis.order]]
    if precision is None:
        return order[diagnosis.estimate.suspected[order]] if top is None else order[:top]
    wrong = diagnosis.estimate.wrong[order]  # it falls along the ranking, and so does its mean
    count = int((np.cumsum(wrong) >= precision * np.arange(1, len(wrong) + 1)).sum())
    if len(wrong) and not count:
        raise ConfigError(f"--precision: {precision:g}, but the likeliest wrong label has P(wrong) = {wrong[0]:.3g}")
    return order[:count]


def treated(diagnosis: Diagnosis, policy: Policy, row: int) -> tuple[int | None, float]:
    """The label of a chosen sample after a policy, None if it is left out, and its weight."""
    if policy == "weight":
        return int(diagnosis.columns["given"][row]), round(1 - float(diagnosis.estimate.wrong[row]), 4)
    return int(diagnosis.suggested[row]) if policy == "relabel" else None, 1.0


def corrected(
    diagnosis: Diagnosis,
    policy: Policy = "relabel",
    top: int | None = None,
    precision: float | None = None,
    decisions: Decisions | None = None,
) -> Corrected:
    """Correct the training labels of a run.

    A policy treats neither samples that a person has decided about, nor those that `data.labels` changed before. Other
    samples keep the labels of the run: those held out, as nothing is known about them, and those that `data.labels`
    left out or weighted. Where a policy would take the last label of a class, the least suspicious one stays.

    Args:
        diagnosis: ranks the samples.
        policy: treatment of the chosen samples.
        top: choose this many samples, the likeliest wrong labels; None: the suspected ones.
        precision: in (0, 1]: choose as many samples as have this estimated precision, the mean of their P(wrong).
        decisions: of a person; None: there are none.

    Raises:
        ConfigError: see `check_request` and `chosen_rows`; label noise replaced images; or a person's decisions leave
            a class without a training sample.
        DataError: the data set has changed since the run.
    """
    check_request(diagnosis.run, policy, top, precision, decisions is not None)
    data = data_of(diagnosis.run)
    check_labels(diagnosis.run, data, data.rows(0))
    if data.noise_record is not None and len(data.noise_record.replaced):
        raise ConfigError("--write: the label noise of this run replaced images, and no label can correct those")
    names = sample_names(data)
    before: Decisions = dict(zip(names, data.labels.given.tolist(), strict=True))
    before |= {name: after for name, (_, after) in data.corrections().items() if name not in before}
    labels, weights, decided = dict(before), dict(data.weights()), decisions or {}
    name_of = [names[index] for index in diagnosis.columns["index"].tolist()]
    settled = np.array([name in decided or name in data.corrections() for name in name_of], bool)
    rows = [] if policy == "keep" else chosen_rows(diagnosis, top, precision, settled).tolist()
    for row in rows:
        name = name_of[row]
        labels[name], weights[name] = treated(diagnosis, policy, row)  # an earlier weight judged the former label
    labels |= decided
    last: dict[str, int | None] = {}
    if "labels" in diagnosis.run.config.data.source:
        least_suspicious_first = [name_of[row] for row in reversed(rows)]
        last = _last_of_their_class(before, labels, least_suspicious_first)
        labels |= last
        weights |= {name: data.weights().get(name, 1.0) for name in last}
    weights = {name: weight for name, weight in weights.items() if weight < 1 and name not in decided}
    votes = stated(data.source, "targets")
    same = (name for name in votes if name in before and labels[name] == before[name])
    by_votes = frozenset(name for name in same if name not in decided and name not in weights)
    lost = {*before.values()} - {*labels.values()} - {None}
    if lost and "labels" in diagnosis.run.config.data.source:
        emptied = quoted(diagnosis.run.classes[label] for label in lost if label is not None)
        raise ConfigError(f"--reviewed: leaves no training sample of {emptied}, and training needs one of each class")
    pairs = [(was, labels[name]) for name, was in before.items()]
    return Corrected(
        diagnosis.run,
        data,
        labels,
        weights if weights or policy == "weight" or data.weights() else None,
        relabelled=sum(now is not None and now != was for was, now in pairs),
        left_out=sum(now is None and now != was for was, now in pairs),
        earlier=sum(now is None and now == was for was, now in pairs),
        by_votes=by_votes,
        last=len(last),
    )


def _last_of_their_class(before: Decisions, after: Decisions, names: Sequence[str]) -> Decisions:
    """The samples, with their labels before, that must keep them so that no class loses its last label.

    Args:
        before, after: name → label.
        names: of the samples that may keep their labels, in the order in which they do.
    """
    kept: Decisions = {}
    count = Counter(after.values())
    while True:  # a sample that keeps its label may be the last one of the class that it was to get
        lost = {label for label in before.values() if label is not None and not count[label]}
        found = next((name for name in names if before[name] in lost and name not in kept), None)
        if found is None:
            return kept
        count[after[found]] -= 1
        count[before[found]] += 1
        kept[found] = before[found]


def usage(run: TrainedRun, path: Path) -> str:
    """The overrides of the run's command that train on the corrected labels."""
    key = "data.labels" if "labels" in run.config.data.source else "noise.path"
    word = override(key, str(path)) or f"{key}={path}"
    if key == "noise.path":
        return f"noise=csv {word}"
    # Injected noise would be drawn anew, on top of the corrections.
    return word + ("" if run.config.noise.name == "real" else " noise=real")


def write_corrected(corrected: Corrected, path: Path) -> None:
    """Write corrected labels as a CSV file.

    - Image files and other samples with names: `path,label`, a row for every training sample, with class names, as
      `data.labels` and `noise=csv` read it.
    - The user's own samples without names: `index,label`, as `data.labels` reads it.
    - Samples of a built-in data set in memory: `label,label_noisy`, as `noise=csv` reads it, in data set order.

    An empty label leaves a sample out. Weights are a third column, `weight`. With `votes=frequency` unchanged images
    have no row, which would replace the shares of their annotators.

    Raises:
        ConfigError: see `check_target`.
        DataError: the file cannot be written.
    """
    check_target(corrected.run, path)
    data, labels, weights = corrected.data, corrected.labels, corrected.weights
    place = place_of(data)
    if place == "index" and "labels" not in corrected.run.config.data.source:
        record = data.noise_record
        to_csv(path, data.labels.given if record is None else record.true, torch.tensor([*labels.values()]))
        return
    rows = [[place, "label", *(["weight"] if weights is not None else [])]]
    for name, label in labels.items():
        if name in corrected.by_votes:
            continue
        weight = [f"{weights.get(name, 1):g}"] if weights is not None else []
        rows.append([name, "" if label is None else corrected.run.classes[label], *weight])
    with replacing(path) as file:
        file.write(csv_bytes(rows))
