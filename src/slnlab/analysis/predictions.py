"""Quality of trained weights on a test set beyond its accuracy: recall of each class and calibration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot
from torchmetrics.functional.classification import multiclass_calibration_error

from slnlab.data.batches import EvaluationBatch
from slnlab.models.predicting import predict
from slnlab.processes.distributed import gather
from slnlab.record.result import TOP5_CLASSES, TestQuality

BINS = 15
"""Bins of confidence of the expected calibration error, as in Guo et al. (2017)."""


@torch.no_grad()
def measured_qualities(
    networks: Mapping[str, nn.Module], batches: Iterable[EvaluationBatch], num_classes: int
) -> dict[str, TestQuality]:
    """Predict a test set by several networks in one pass, in eval mode. A process group joins all processes' samples.

    Args:
        networks: name → images → logits (B, C). Their modes are restored afterwards.
        batches: this process's part of the test set; at least one batch, which may be empty.
        num_classes: C.
    """
    logits: dict[str, list[Tensor]] = {name: [] for name in networks}
    labels: list[Tensor] = []
    for image, label in batches:
        labels.append(label)
        empty = torch.empty(0, num_classes, device=label.device)
        for name, network in networks.items():
            # A copy, as the next batch's CUDA graph may overwrite it (trainer.compile).
            logits[name].append(predict(network, image).float().clone() if len(label) else empty)
    true = gather(torch.cat(labels)).cpu()
    return {name: quality(gather(torch.cat(parts)).cpu(), true) for name, parts in logits.items()}


def quality(logits: Tensor, labels: Tensor) -> TestQuality:
    """Recall and calibration of predictions.

    Args:
        logits: (N, C), N ≥ 1.
        labels: (N,) int64.
    """
    num_classes = logits.shape[1]
    probabilities = logits.softmax(1)
    right = (logits.argmax(1) == labels).double()
    samples = torch.bincount(labels, minlength=num_classes)
    recall = torch.bincount(labels, weights=right, minlength=num_classes) / samples
    error = multiclass_calibration_error(probabilities, labels, num_classes, n_bins=BINS, norm="l1")
    return TestQuality(
        class_recall=[value if count else None for value, count in zip(recall.tolist(), samples.tolist(), strict=True)],
        balanced_accuracy=recall[samples > 0].mean().item(),
        top5_accuracy=_top5(logits, labels) if num_classes >= TOP5_CLASSES else None,
        ece=error.item(),
        nll=cross_entropy(logits.double(), labels).item(),
        brier=(probabilities - one_hot(labels, num_classes)).square().sum(1).mean().item(),
    )


def _top5(logits: Tensor, labels: Tensor) -> float:
    return (logits.topk(5).indices == labels.unsqueeze(1)).any(1).double().mean().item()
