"""The numbers of training samples that follow from the keys of the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slnlab.processes.batching import fold_size


def training_samples(data: Mapping[str, Any]) -> int:
    """The number of training samples before any is held out, without those of the fold.

    With `data.imbalance` it is exact for classes of equal size before.
    """
    samples = int((data["train_size"] or data["num_train"]) * _kept_share(data))
    return samples - (fold_size(samples, *data["fold"]) if data.get("fold") else 0)


def epoch_size(data: Mapping[str, Any]) -> int | None:
    """The number of training samples of an epoch; None if it depends on the size of the smallest class."""
    if data.get("sampling") != "balanced":
        return training_samples(data) - int(data["noisy_val"])
    return None if data["per_class"] is None else int(data["per_class"] * data["num_classes"])


def _kept_share(data: Mapping[str, Any]) -> float:
    """The share of equal classes that `slnlab.data.imbalance.imbalanced_rows` keeps."""
    ratio, classes = data.get("imbalance"), data["num_classes"]
    if not isinstance(ratio, int | float) or ratio < 1 or classes < 2:  # wrong values are refused elsewhere
        return 1.0
    classes -= data.get("threshold") is not None
    exponential = data.get("imbalance_kind") != "step"
    places = [c / (classes - 1) if exponential else float(c >= classes / 2) for c in range(classes)]
    return sum(ratio**-place for place in places) / classes
