"""What trained weights say about the training labels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from slnlab.errors import Diverged
from slnlab.models.modes import evaluating
from slnlab.processes.distributed import gather
from slnlab.record.result import LabelFindings
from slnlab.samples import SampleTable


class SampleJudgements(NamedTuple):
    """What trained weights say of M samples, each (M,), ordered by row, on the CPU."""

    rows: Tensor
    """Of the sample table, int64."""
    loss: Tensor
    """Cross entropy against the given label, in nats."""
    prediction: Tensor
    """Predicted label, int64."""
    margin: Tensor
    """Logit of the given label less the largest of another: below 0 where another label is predicted. It still tells
    samples apart whose loss has become 0."""


@torch.no_grad()
def judge(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], table: SampleTable) -> SampleJudgements:
    """What the network says of every sample in `batches`, in eval mode; in a process group, of all processes.

    Args:
        network: its mode is put back afterwards.
        batches: pairs (rows of the table (B,), images).

    Raises:
        Diverged: a loss is not finite.
    """
    parts: list[tuple[Tensor, ...]] = []
    with evaluating(network):
        for index, image in batches:
            logits = network(image).float()
            given = table["given"][index].unsqueeze(1)
            loss = cross_entropy(logits, given.squeeze(1), reduction="none")
            others = logits.scatter(1, given, -torch.inf).amax(1)
            parts.append((index, loss, logits.argmax(1), logits.gather(1, given).squeeze(1) - others))
    judged = SampleJudgements(*(gather(torch.cat(column)).cpu() for column in zip(*parts, strict=True)))
    if not judged.loss.isfinite().all():
        raise Diverged("the final loss is not finite: training has diverged; a smaller optimizer.lr may help")
    order = judged.rows.argsort()  # several processes have it in pieces
    return SampleJudgements(*(column[order] for column in judged))


def findings(
    loss: Tensor, prediction: Tensor, given: Tensor, true: Tensor | None, wrong: Tensor | None
) -> LabelFindings:
    """Memorised and recovered fractions, and how well the loss finds wrong labels.

    Args:
        loss, prediction, given: (M,) each.
        true, wrong: (M,) true labels and mask of wrong samples, or None where unknown.
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
