"""The training samples that a run uses, with the labels it trains on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from slnlab.data.batches import Labels
from slnlab.data.folds import rows_of_fold
from slnlab.data.imbalance import ImbalanceKind, imbalanced_rows
from slnlab.data.threshold import threshold_rows
from slnlab.errors import ConfigError, DataError
from slnlab.noise import NoiseRecord
from slnlab.schema.kinds import Classes, Count, CountOrZero, Fold, OneOrMore
from slnlab.streams import Streams


class TrainingSamples:
    """The choice of the training samples, and their labels; a datamodule inherits it.

    Args:
        name: name of the data set.
        num_classes: C.
        train_size: number of training samples, from the first; None: all.
        noisy_val: number of training samples held out for selection, with noisy labels.
        split_seed: seed of the held-out samples, of the folds, and of the part of each class.
        imbalance: the first `train_size` samples lose a part of each class, by their true labels if these are known;
            this is the ratio of the largest to the smallest fraction that remains. None: all remain.
        imbalance_kind: shape over the classes, see `slnlab.data.imbalance.imbalanced_rows`.
        fold: (number, k): train without this one of k folds, see `slnlab.data.folds`; None: with all.
        threshold: give a set (1 or 2) of training samples the last class, `num_classes` − 1, which no other has; see
            `slnlab.data.threshold`. None: no such samples.

    After the data are read there are `labels` (in data set order), `val_index` and `fold_index` (rows of them), and
    `noise_record` (None if the true labels are unknown).
    """

    def __init__(
        self,
        *,
        name: str,
        num_classes: Classes,
        train_size: Count | None = None,
        noisy_val: CountOrZero = 0,
        split_seed: CountOrZero = 0,
        imbalance: OneOrMore | None = None,
        imbalance_kind: ImbalanceKind = "exponential",
        fold: Fold | None = None,
        threshold: Literal[1, 2] | None = None,
    ) -> None:
        super().__init__()
        self.name: str | None = name  # Lightning's type
        self.num_classes = num_classes
        self.train_size, self.noisy_val, self.split_seed = train_size, noisy_val, split_seed
        self.imbalance, self.imbalance_kind = imbalance, imbalance_kind
        self.fold, self.threshold = fold, threshold
        self.own_classes = num_classes - (threshold is not None)
        self.source: Any = None
        self.noise_record: NoiseRecord | None
        self.labels: Labels
        self.val_index: Tensor
        self.fold_index: Tensor
        self._pool: Tensor

    def noise_summary(self) -> dict[str, Any]:
        """Return the noise entry of the result. Real noise has the hash of its given labels, `NoiseRecord.hash`."""
        summary: dict[str, Any]
        if self.noise_record is not None:
            summary = self.noise_record.summary()
        else:
            given = self.labels.given.cpu()
            record = NoiseRecord(true=given, given=given, num_classes=self.num_classes, name="real", rate=0.0)
            summary = {"name": "real", "num_samples": len(given), "hash": record.hash}
        changes, weights = self.corrections().values(), self.weights()
        if changes or weights:
            left_out = sum(after is None for _, after in changes)
            summary["corrections"] = {
                "changed": len(changes) - left_out,
                "left_out": left_out,
                "weighted": len(weights),
            }
        return summary

    def corrections(self) -> Mapping[str, tuple[int, int | None]]:
        """Return the changes by `data.labels`: image file → label before and after, None for an image left out."""
        known = getattr(self.source, "corrections", None)
        return {} if known is None else known()

    def weights(self) -> Mapping[str, float]:
        """Return the weights in [0, 1] that a CSV file states: image file → weight, where it is not 1."""
        known = getattr(self.source, "weights", None)
        return {} if known is None else known()

    # Subclasses call these

    def _training_size(self, available: int) -> int:
        """Return the number of used training samples out of the available ones."""
        size = available if self.train_size is None else self.train_size
        if not 1 <= size <= available:
            raise ConfigError(f"data.train_size: {self.name} has {available} training images, not {size}")
        if not 0 <= self.noisy_val < size:
            raise ConfigError(f"data.noisy_val: must lie in [0, {size}), not {self.noisy_val}")
        return size

    def _kept(self, labels: Tensor) -> Tensor:
        """The rows (M,) of the training samples in use, ascending, by the labels (N,) of all, true if known."""
        size = self._training_size(len(labels))
        if self.imbalance is None:
            return torch.arange(size)
        self._check_labels("training", labels[:size])
        generator = Streams(self.split_seed)("imbalance")
        rows = imbalanced_rows(labels[:size], self.own_classes, self.imbalance, self.imbalance_kind, generator)
        if self.noisy_val >= len(rows):
            raise ConfigError(f"data.noisy_val: must be below {len(rows)}, the samples that data.imbalance leaves")
        return rows

    def _use(self, record: NoiseRecord) -> None:
        """Train on the labels of a noise record."""
        self.noise_record, self.labels = record, Labels(record.given, record.true, record.wrong)

    def _use_real(self, given: Tensor, true: Tensor | None, replaced: Tensor | None = None) -> None:
        """Train on labels (N,) int64 as they are. Known true labels (N,) make their noise known.

        `replaced` (N,) bool marks images of no class, whose labels are wrong whatever `true` says.
        """
        if true is not None:
            rows = torch.empty(0, dtype=torch.int64) if replaced is None else replaced.nonzero().flatten()
            self._use(
                NoiseRecord(
                    true=true,
                    given=given,
                    replaced=rows,
                    donor=rows,
                    donor_source=f"{self.name}/replaced" if len(rows) else None,
                    num_classes=self.num_classes,
                    name="real",
                    rate=0.0,
                )
            )
        else:
            self.noise_record, self.labels = None, Labels(given)

    def _hold_out(self, size: int) -> None:
        """Leave out the fold, and choose the samples of `val` among the rest of the first `size` training samples."""
        shuffled = torch.randperm(size, generator=Streams(self.split_seed)("held out"))
        self.fold_index = torch.empty(0, dtype=torch.int64)
        if self.fold is not None:
            self.fold_index = rows_of_fold(self.labels.given, self.fold, self.split_seed)
            shuffled = shuffled[~torch.isin(shuffled, self.fold_index)]
        self.val_index = shuffled[: self.noisy_val].sort().values
        self._pool = shuffled[self.noisy_val :].sort().values
        if self.threshold is not None:
            rows = threshold_rows(self._pool, self.own_classes, self.threshold, self.split_seed)
            chosen = torch.zeros(len(self.labels.given), dtype=torch.bool)
            chosen[rows] = True
            given, wrong = self.labels.given.masked_fill(chosen, self.own_classes), self.labels.wrong
            self.labels = self.labels._replace(given=given, wrong=None if wrong is None else wrong | chosen)
            if self.noise_record is not None:
                self.noise_record = replace(self.noise_record, given=given, num_classes=self.num_classes)

    def _check_labels(self, split: str, labels: Tensor) -> None:
        if not 0 <= int(labels.min()) <= int(labels.max()) < self.num_classes:
            raise DataError(
                f"{self.name}: a {split} label lies outside the {self.num_classes} classes "
                f"(found {int(labels.min())} to {int(labels.max())})"
            )
