"""Recall and calibration of predictions, by hand and beside scikit-learn's."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from slnlab.analysis.predictions import measured_qualities, quality
from slnlab.data.batches import EvaluationBatch
from slnlab.record.result import TestQuality

PROBABILITIES = [[0.9, 0.05, 0.05], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.62, 0.2, 0.18]]
LABELS = torch.tensor([0, 0, 1, 1])
LOGITS = torch.tensor(PROBABILITIES).log()


def test_quality_by_hand() -> None:
    """Confidences .9, .6, .7, .62 are right, right, right, wrong; .6 and .62 share the bin [.6, .667)."""
    found = quality(LOGITS, LABELS)
    assert found.class_recall == [1.0, 0.5, None], "no sample of the third class"
    assert found.balanced_accuracy == 0.75
    assert found.ece == pytest.approx((0.1 + 0.3 + abs(1 - (0.6 + 0.62))) / 4, abs=1e-6)
    assert found.nll == pytest.approx(-sum(map(math.log, (0.9, 0.6, 0.7, 0.2))) / 4)
    squares = [0.1**2 + 2 * 0.05**2, 0.4**2 + 0.3**2 + 0.1**2, 0.2**2 + 0.3**2 + 0.1**2, 0.62**2 + 0.8**2 + 0.18**2]
    assert found.brier == pytest.approx(sum(squares) / 4)


def test_quality_equals_scikit_learns() -> None:
    from sklearn.metrics import balanced_accuracy_score, log_loss, recall_score

    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(500, 4, generator=generator), torch.randint(4, (500,), generator=generator)
    found, predicted = quality(logits, labels), logits.argmax(1)
    assert found.class_recall == pytest.approx(recall_score(labels, predicted, average=None))
    assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert found.nll == pytest.approx(log_loss(labels, logits.double().softmax(1)))


def test_top5_accuracy_from_50_classes_on() -> None:
    """During training and in the result; the label ranks 1st, 5th, 6th and last of 50 classes."""
    from slnlab.methods.evaluation import Evaluation

    logits, labels = torch.arange(50.0).repeat(4, 1), torch.tensor([49, 45, 44, 0])
    assert quality(logits, labels).top5_accuracy == 0.5
    assert quality(logits[:, :49], labels.clamp(max=48)).top5_accuracy is None
    evaluation, network = Evaluation(), nn.Identity()
    for rows in (slice(0, 3), slice(3, 4), slice(4, 4)):
        evaluation.update("test", {"network": network}, EvaluationBatch(logits[rows], labels[rows]), 50)
    found = {name: float(value) for name, value in evaluation.results({"mean": ("network",)}).items()}
    assert (found["test/network/accuracy"], found["test/network/top5_accuracy"]) == (0.25, 0.5)
    assert found["test/mean/top5_accuracy"] == 0.5
    assert found["test/network/loss"] == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item())
    evaluation.clear()
    evaluation.update("val", {"network": network}, EvaluationBatch(LOGITS, LABELS), 3)
    assert set(evaluation.results({})) == {"val/network/accuracy", "val/network/loss"}


class Flipped(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image.flip(1)


def test_networks_are_tested_in_eval_mode_in_one_pass_over_all_batches() -> None:
    network = nn.Sequential(nn.Dropout(0.9), nn.Identity()).train()
    batches = [EvaluationBatch(LOGITS[:3], LABELS[:3]), EvaluationBatch(LOGITS[3:], LABELS[3:])]
    batches.append(EvaluationBatch(LOGITS[:0], LABELS[:0]))  # another process has all of this batch
    flipped = nn.Sequential(Flipped())
    found = measured_qualities({"network": network, "other": flipped}, iter(batches), 3)  # an iterator is read once
    assert found == {"network": quality(LOGITS, LABELS), "other": quality(LOGITS.flip(1), LABELS)}
    assert network.training


def test_the_mean_of_two_networks() -> None:
    first, second = quality(LOGITS, LABELS), quality(LOGITS.flip(0), LABELS)
    mean = TestQuality.mean([first, second])
    assert mean.nll == pytest.approx((first.nll + second.nll) / 2)
    assert mean.class_recall[2] is None
    assert mean.class_recall[0] == pytest.approx((1 + (second.class_recall[0] or 0)) / 2)
