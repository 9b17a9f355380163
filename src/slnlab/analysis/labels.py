"""What trained weights say about the training labels."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from slnlab.distributed import gather
from slnlab.errors import Diverged
from slnlab.modes import evaluating
from slnlab.result import LabelFindings
from slnlab.samples import SampleTable


@torch.no_grad()
def judge(
    network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], table: SampleTable
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss against the given label (M,) and predicted label (M,) of every sample in `batches`, in eval mode.

    Args:
        network: its mode is put back afterwards.
        batches: pairs (rows of the table (B,), images).

    Returns:
        (rows, losses, predictions), each (M,), ordered by row, on the CPU; in a process group, of all processes.

    Raises:
        Diverged: a loss is not finite.
    """
    rows, losses, predictions = [], [], []
    with evaluating(network):
        for index, image in batches:
            logits = network(image).float()
            rows.append(index)
            losses.append(cross_entropy(logits, table["given"][index], reduction="none"))
            predictions.append(logits.argmax(1))
    row, loss, prediction = (gather(torch.cat(column)).cpu() for column in (rows, losses, predictions))
    if not loss.isfinite().all():
        raise Diverged("the final loss is not finite: training has diverged; a smaller optimizer.lr may help")
    order = row.argsort()  # several processes have it in pieces
    return row[order], loss[order], prediction[order]


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
