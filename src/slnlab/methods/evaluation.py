"""Accuracy and loss of every judged network on every split; from 50 classes on also the top-5 accuracy."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy

from slnlab.data.batches import EvaluationBatch
from slnlab.methods.ensemble import Ensemble
from slnlab.models.predicting import predict
from slnlab.record.result import TOP5_CLASSES


class Evaluation:
    """Accumulates accuracy and mean cross entropy on the device; `metrics` has them by (split, name)."""

    def __init__(self) -> None:
        self.metrics: dict[tuple[str, str], dict[str, Metric]] = {}
        self.due = True
        """True if an evaluation follows the present epoch, see `slnlab.callbacks.evaluation_schedule`."""

    def update(self, split: str, judged: Mapping[str, nn.Module], batch: EvaluationBatch, num_classes: int) -> None:
        """Add a batch of this split, predicted in eval mode by each of these networks."""
        predicted: dict[nn.Module, Tensor] = {}
        for name, network in judged.items():
            if (split, name) not in self.metrics:
                made: dict[str, Metric] = {
                    "accuracy": MulticlassAccuracy(num_classes, average="micro", validate_args=False),
                    "loss": MeanMetric(nan_strategy=math.nan),  # by default it leaves NaNs out and is finite
                }
                if num_classes >= TOP5_CLASSES:
                    made["top5_accuracy"] = MulticlassAccuracy(
                        num_classes, top_k=5, average="micro", validate_args=False
                    )
                self.metrics[split, name] = {key: metric.to(batch.label.device) for key, metric in made.items()}
            if not len(batch.label):  # another process has all of this batch
                continue
            if isinstance(network, Ensemble) and all(member in predicted for member in network.members):
                predicted[network] = network.of(predicted[member] for member in network.members)
            else:
                # A copy, as the next network's CUDA graph may overwrite it (trainer.compile).
                predicted[network] = predict(network, batch.image).clone()
            logits = predicted[network].float()
            for key, metric in self.metrics[split, name].items():
                if key == "loss":
                    metric.update(cross_entropy(logits, batch.label), weight=len(batch.label))
                else:
                    metric.update(logits, batch.label)

    def results(self, means: Mapping[str, tuple[str, ...]]) -> dict[str, Tensor]:
        """`split/name/accuracy`, `…/loss`, … of every network, and of every mean of several networks."""
        values = {
            (split, name, key): metric.compute()
            for (split, name), metrics in self.metrics.items()
            for key, metric in metrics.items()
        }
        for split, key in {(split, key): None for split, _, key in values}:
            for name, members in means.items():
                values[split, name, key] = torch.stack([values[split, member, key] for member in members]).mean()
        return {"/".join(key): value for key, value in values.items()}

    def clear(self) -> None:
        """Forget everything; the next evaluation may use other splits."""
        self.metrics.clear()
