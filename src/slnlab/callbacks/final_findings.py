"""The findings of a finished training: its rows, the list of suspected labels, and the estimated noise rate."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch

from slnlab.analysis.label_issues import chosen_judge, label_verdict, label_warning, write_label_issues
from slnlab.analysis.labels import findings, judge
from slnlab.analysis.noise_estimate import Share, estimate_rate, estimate_rate_by_anchors
from slnlab.analysis.predictions import measured_qualities
from slnlab.analysis.scores import RANKING, suspicion
from slnlab.callbacks.best_epoch import ROW as BEST
from slnlab.callbacks.best_epoch import BestEpoch
from slnlab.callbacks.dynamics import dynamics
from slnlab.callbacks.momentum import MomentumModel
from slnlab.data.datamodule import IndexedDataModule
from slnlab.methods.base import Method
from slnlab.record.metrics import summarise_test, summarise_validation
from slnlab.record.result import (
    KeptWeights,
    LabelFindings,
    LabelIssues,
    NoiseRateEstimate,
    NoiseRateUsed,
    Preprocessing,
    ResultRow,
    TestQuality,
    TransitionUsed,
)
from slnlab.record.run_directory import RunDirectory
from slnlab.schema.law import RowTitle
from slnlab.storage.writing import replacing

log = logging.getLogger(__name__)

Columns = dict[str, np.ndarray]
"""Columns (M,) of `samples.npz`, by name."""


class FinalFindings(NamedTuple):
    """The fields of `slnlab.record.result.Result` with these names. Only the first process has those with a default."""

    rows: dict[str, ResultRow]
    preprocessing: Preprocessing
    noise_rate_used: NoiseRateUsed | None
    transition_used: TransitionUsed | None
    label_issues: LabelIssues | None = None
    noise_rate_estimate: NoiseRateEstimate | None = None
    noise_rate_by_anchors: NoiseRateEstimate | None = None


class _Judged(NamedTuple):
    """The judgement of one set of weights. The noise rate by anchor points is None without probabilities."""

    findings: LabelFindings
    quality: TestQuality | None
    by_anchors: Share | None


def final_findings(
    trainer: pl.Trainer,
    method: Method,
    run: RunDirectory,
    epochs: Sequence[dict[str, float]],
    titles: Mapping[str, RowTitle],
) -> FinalFindings:
    """Judge the training labels by all weights of a trained method. All processes must call it.

    The first process writes `samples.npz` and `label_issues.csv`.

    Args:
        trainer, method: after training.
        run: the directory of the run.
        epochs: the rows of metrics.csv.
        titles: titles of the rows, by name.

    Raises:
        DataError: a file cannot be written.
    """
    judged, columns = _judge(method)
    for name, members in method.means.items():
        mean = LabelFindings.mean([judged[member].findings for member in members])
        qualities = [quality for member in members if (quality := judged[member].quality)]
        judged[name] = _Judged(mean, TestQuality.mean(qualities) if qualities else None, None)
    kept = next((each.kept for each in trainer.callbacks if isinstance(each, BestEpoch)), None)  # type: ignore[attr-defined]
    rows = {}
    for name, each in judged.items():
        title = titles.get(name, RowTitle(name))
        rows[name] = _row(name, title, each, epochs, kept if name == BEST else None)
    found = FinalFindings(rows, method.data.preprocessing, method.noise_rate_used, method.transition_used)
    if not trainer.is_global_zero:
        return found
    decay = next((each.decay for each in trainer.callbacks if isinstance(each, MomentumModel)), 0.0)  # type: ignore[attr-defined]
    weighed = {name: rows[name] for name in method.judged}
    judging, why = chosen_judge(weighed, first_weights=decay**method.steps)
    suspected = _write(columns, judging, method.data, run)
    issues = _issues(judging, why, suspected, columns["given"], rows[judging])
    log.info(
        "%s disagrees with %d of %d training labels (it judges because %s): %s",
        *(rows[judging].title, suspected, issues.samples, why, run.label_issues),
    )
    if warning := label_warning(issues, rows[judging].title):
        log.warning("%s", warning)
    suspicions = suspicion(columns, judge="")[RANKING]  # of the training, so that it needs no judge
    by_mixture = estimate_rate(suspicions, columns["given"]) if len(suspicions) >= 2 else None
    wrong = columns.get("wrong")
    return found._replace(
        label_issues=issues,
        noise_rate_estimate=_estimated(by_mixture, "loss mixture", wrong),
        noise_rate_by_anchors=_estimated(judged[judging].by_anchors, "anchor points", wrong),
    )


def _judge(method: Method) -> tuple[dict[str, _Judged], Columns]:
    """Judge the labels, and the test images if there are any, by each set of weights."""
    data, table = method.data, method.table
    # Lightning has moved the networks off the device by now.
    networks = {name: network.to(table.device) for name, network in method.judged.items()}
    tested: dict[str, TestQuality] = {}
    if data.test:
        tested = measured_qualities(networks, data.evaluation_batches("test"), data.num_classes)
    judgements = judge(networks, data.passes("clean", "judge", 0), table)
    index = next(iter(judgements.values())).rows  # all judged the same samples
    rows = index.to(table.device)
    known = {key: table[key][rows].cpu() for key in ("given", "true", "wrong") if key in table}
    judged: dict[str, _Judged] = {}
    columns: Columns = {"index": index.numpy(), **{key: value.numpy() for key, value in known.items()}}
    for name, (_, loss, prediction, margin, other, probabilities) in judgements.items():
        found = findings(loss, prediction, known["given"], known.get("true"), known.get("wrong"))
        anchors = estimate_rate_by_anchors(probabilities, known["given"]) if probabilities.numel() else None
        judged[name] = _Judged(found, tested.get(name), anchors)
        columns |= {f"{name}_loss": loss.numpy(), f"{name}_prediction": prediction.numpy()}
        columns |= {f"{name}_margin": margin.numpy(), f"{name}_other": other.numpy()}
    columns |= {key: column.cpu().numpy() for key, column in dynamics(table, rows).items()}
    return judged, columns


def _row(
    name: str,
    title: RowTitle,
    judged: _Judged,
    epochs: Sequence[dict[str, float]],
    kept: KeptWeights | None,
) -> ResultRow:
    if kept is not None:  # earlier epochs had other weights
        epochs = [{**epochs[-1], "epoch": kept.epoch}]
    return ResultRow(
        title=title.title,
        secondary=title.secondary,
        kept=kept,
        test_accuracy=summarise_test(epochs, name),
        noisy_val_accuracy=summarise_validation(epochs, name),
        clean_val_accuracy=summarise_validation(epochs, name, "val_clean"),
        test_quality=judged.quality,
        findings=judged.findings,
    )


def _write(columns: Columns, judging: str, data: IndexedDataModule, run: RunDirectory) -> int:
    """Write samples and label issues; return the number of suspected labels."""
    paths = data.paths(torch.from_numpy(columns["index"]))
    if paths is not None:
        columns["path"] = np.array([os.fsencode(path) for path in paths])  # text would need four times the memory
    with run.writing_result():
        with replacing(run.samples) as file:
            np.savez_compressed(file, **columns)  # type: ignore[arg-type]
        with replacing(run.label_issues) as file:
            return write_label_issues(file, columns, judging, data.classes)


def _issues(judging: str, why: str, suspected: int, given: np.ndarray, row: ResultRow) -> LabelIssues:
    """The summary of `label_issues.csv`."""
    samples, agreement = len(given), row.findings.given_accuracy
    held_out = row.noisy_val_accuracy.last if row.noisy_val_accuracy else None
    return LabelIssues(
        judge=judging,
        reason=why,
        samples=samples,
        suspected=suspected,
        agreement=agreement,
        held_out=held_out,
        verdict=label_verdict(agreement, np.bincount(given).max() / samples, held_out),
    )


def _estimated(
    rate: Share | None, source: Literal["loss mixture", "anchor points"], wrong: np.ndarray | None
) -> NoiseRateEstimate | None:
    if rate is None:
        return None
    error = None if wrong is None else rate.value - float(wrong.mean())
    return NoiseRateEstimate(**rate._asdict(), source=source, error=error)
