"""Findings of trained weights on the training labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from slnlab.errors import Diverged
from slnlab.models.predicting import predict
from slnlab.processes.distributed import gathered
from slnlab.record.result import LabelFindings
from slnlab.samples import SampleTable, margins

MOST_PROBABILITIES = 100_000_000
"""Probabilities of all networks, samples and classes that are kept: 400 MB."""


class SampleJudgements(NamedTuple):
    """Judgements of trained weights on M samples: columns (M, …) on the CPU, ordered by row."""

    rows: Tensor
    """Rows of the sample table, int64."""
    loss: Tensor
    """Cross entropy against the given label, in nats."""
    prediction: Tensor
    """Predicted label, int64."""
    margin: Tensor
    """Logit of the given label minus the largest other logit, below 0 where another label is predicted. It still
    separates samples whose loss is 0."""
    other: Tensor
    """The likeliest class other than the given label, int64."""
    probabilities: Tensor
    """Softmax (M, C), or (M, 0) for more than `MOST_PROBABILITIES` of them."""


@torch.no_grad()
def judge(
    networks: Mapping[str, nn.Module], batches: Iterable[tuple[Tensor, Tensor]], table: SampleTable
) -> dict[str, SampleJudgements]:
    """Judge every sample in `batches` in eval mode, by several networks in one pass.

    A process group joins the samples of all processes.

    Args:
        networks: name → images → logits (B, C). Their modes are restored afterwards.
        batches: pairs of rows of the table (B,), int64, and images.
        table: holds the given labels.

    Raises:
        Diverged: a loss is not finite.
    """
    parts: dict[str, list[tuple[Tensor, ...]]] = {name: [] for name in networks}
    kept = table.num_classes if len(networks) * len(table) * table.num_classes <= MOST_PROBABILITIES else 0
    for index, image in batches:
        given = table["given"][index]
        for name, network in networks.items():
            logits = predict(network, image).float()
            loss = cross_entropy(logits, given, reduction="none")
            other = logits.scatter(1, given.unsqueeze(1), -torch.inf).argmax(1)
            probabilities = logits.softmax(1)[:, :kept]
            parts[name].append((index, loss, logits.argmax(1), margins(logits, given), other, probabilities))
    return {name: _joined(each) for name, each in parts.items()}


def _joined(parts: list[tuple[Tensor, ...]]) -> SampleJudgements:
    """The judgements by one network of the batches of all processes."""
    judged = SampleJudgements(*(column.cpu() for column in gathered(parts)))
    if not judged.loss.isfinite().all():
        raise Diverged("the final loss is not finite: training has diverged; a smaller optimizer.lr may help")
    order = judged.rows.argsort()  # each process has a part
    return SampleJudgements(*(column[order] for column in judged))


def findings(
    loss: Tensor, prediction: Tensor, given: Tensor, true: Tensor | None, wrong: Tensor | None
) -> LabelFindings:
    """Memorised and recovered fractions, and the ranking of wrong labels by their loss.

    Args:
        loss: (M,), in nats.
        prediction: (M,) predicted labels, int64.
        given: (M,) given labels, int64.
        true: (M,) true labels, int64; None: unknown.
        wrong: (M,) bool, True for wrongly labelled samples; None: unknown.
    """
    agrees = prediction == given
    if true is None or wrong is None:
        return LabelFindings(
            given_accuracy=_mean(agrees) or 0.0,
            true_accuracy=None,
            memorised=None,
            recovered=None,
            auroc=None,
            average_precision=None,
        )
    is_true = prediction == true
    both = bool(wrong.any()) and not bool(wrong.all())
    return LabelFindings(
        given_accuracy=_mean(agrees) or 0.0,
        true_accuracy=_mean(is_true[~wrong | (given != true)]),  # a replaced image has no true label
        memorised=_mean(agrees[wrong]),
        recovered=_mean(is_true[given != true]),
        auroc=float(roc_auc_score(wrong, loss)) if both else None,
        average_precision=float(average_precision_score(wrong, loss)) if both else None,
    )


def _mean(mask: Tensor) -> float | None:
    return float(mask.double().mean()) if len(mask) else None
