"""The training samples that a run uses, with the labels it trains on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from slnlab.data.batches import Labels
from slnlab.data.folds import rows_of_fold
from slnlab.data.imbalance import ImbalanceKind, imbalanced_rows
from slnlab.data.inject import LabelNoise
from slnlab.data.source import replaced_images, stated, true_labels
from slnlab.data.threshold import threshold_rows
from slnlab.errors import ConfigError, DataError
from slnlab.noise import NoiseRecord
from slnlab.schema.kinds import Classes, Count, CountOrZero, Fold, OneOrMore
from slnlab.streams import Streams

log = logging.getLogger(__name__)


class Kept(NamedTuple):
    """The M training samples in use, with what their source states about them."""

    rows: Tensor
    """Rows (M,) of the source, ascending."""
    given: Tensor
    """Their labels (M,) int64."""
    true: Tensor | None
    """Their true labels (M,) int64; None: unknown, so `given` may be true ones."""
    replaced: Tensor | None
    """Mask (M,) bool of images that show none of the classes; None: unknown."""


class TrainingSamples:
    """The choice of the training samples, and their labels; a datamodule inherits it.

    Args:
        source: the data set, see `slnlab.data.source.Source` and `slnlab.data.streamed.FileSource`.
        noise: the label noise, or its node of `conf/noise/`. `real`: the labels stay as they are, with noise of an
            unknown kind. Any other noise takes them for true ones.
        name: name of the data set; None: that of `source`.
        num_classes: C.
        classes: names of the classes.
        num_train: required number of training samples of the source; None: any.
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
        source: Any,
        noise: LabelNoise | Mapping[str, Any],
        *,
        num_classes: Classes,
        name: str | None = None,
        classes: Sequence[str] | None = None,
        num_train: int | None = None,
        train_size: Count | None = None,
        noisy_val: CountOrZero = 0,
        split_seed: CountOrZero = 0,
        imbalance: OneOrMore | None = None,
        imbalance_kind: ImbalanceKind = "exponential",
        fold: Fold | None = None,
        threshold: Literal[1, 2] | None = None,
    ) -> None:
        super().__init__()
        self.source = source
        self.noise = noise if isinstance(noise, LabelNoise) else LabelNoise.from_config(noise)
        self.name: str | None = name or source.name  # Lightning's type
        self.num_classes, self.num_train = num_classes, num_train
        self.classes = list(classes) if classes else None
        self.train_size, self.noisy_val, self.split_seed = train_size, noisy_val, split_seed
        self.imbalance, self.imbalance_kind = imbalance, imbalance_kind
        self.fold, self.threshold = fold, threshold
        self.own_classes = num_classes - (threshold is not None)
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
        return stated(self.source, "corrections")

    def weights(self) -> Mapping[str, float]:
        """Return the weights in [0, 1] that a CSV file states: image file → weight, where it is not 1."""
        return stated(self.source, "weights")

    # Subclasses call these

    def _training_size(self, available: int) -> int:
        """Return the number of used training samples out of the available ones."""
        size = available if self.train_size is None else self.train_size
        if not 1 <= size <= available:
            raise ConfigError(f"data.train_size: {self.name} has {available} training images, not {size}")
        if not 0 <= self.noisy_val < size:
            raise ConfigError(f"data.noisy_val: must lie in [0, {size}), not {self.noisy_val}")
        return size

    def _kept(self, labels: Tensor) -> Kept:
        """Choose the training samples in use, by the labels (N,) int64 of the whole source."""
        if self.num_train not in (None, len(labels)):
            raise DataError(f"data.num_train: the configuration says {self.num_train}, the files hold {len(labels)}")
        self._check_labels("training", labels)
        true, replaced = true_labels(self.source), replaced_images(self.source)
        size = self._training_size(len(labels))
        rows = torch.arange(size)
        if missing := len(labels.unique()) - len(labels[:size].unique()):
            log.warning(
                "data.train_size=%d: %d of the %d classes have no sample among the first ones; shuffle a file that is "
                "sorted by label",
                size, missing, self.own_classes,
            )  # fmt: skip
        if self.imbalance is not None:
            known, generator = labels if true is None else true, Streams(self.split_seed)("imbalance")
            rows = imbalanced_rows(known[:size], self.own_classes, self.imbalance, self.imbalance_kind, generator)
            if self.noisy_val >= len(rows):
                raise ConfigError(f"data.noisy_val: must be below {len(rows)}, the samples that data.imbalance leaves")
        columns = (None if column is None else column[rows] for column in (true, replaced))
        return Kept(rows, labels[rows], *columns)

    def _use_labels(
        self, kept: Kept, names: Callable[[], list[str]] | None, **more: Callable[[], Any]
    ) -> NoiseRecord | None:
        """Add the label noise, and set `labels` and `noise_record`; return the added noise (`real`: None).

        Args:
            kept: the samples.
            names: makes their names, such as paths; None: they have none.
            more: makes more arguments for the noise function, see `LabelNoise.record`.
        """
        added = None
        if self.noise.name != "real":
            more |= {} if names is None else {"paths": names}
            clean = kept.given if kept.true is None else kept.true
            added = self.noise.record(clean, self.own_classes, self.classes, **more)
        record = self.noise_record = added or self._real_noise(kept)
        self.labels = Labels(kept.given) if record is None else Labels(record.given, record.true, record.wrong)
        if names is not None and (weights := self.weights()):
            self.labels = self.labels._replace(weight=torch.tensor([weights.get(name, 1.0) for name in names()]))
        if names is not None and (targets := stated(self.source, "targets")):
            each = one_hot(self.labels.given, self.num_classes).float()
            for row, name in enumerate(names()):
                if (target := targets.get(name)) is not None:
                    each[row] = torch.from_numpy(target)
            self.labels = self.labels._replace(target=each)
        return added

    def _real_noise(self, kept: Kept) -> NoiseRecord | None:
        """The noise of labels as they are, by their known true labels; images of no class are wrong in any case."""
        if kept.true is None:
            return None
        rows = torch.empty(0, dtype=torch.int64) if kept.replaced is None else kept.replaced.nonzero().flatten()
        return NoiseRecord(
            true=kept.true,
            given=kept.given,
            replaced=rows,
            donor=rows,
            donor_source=f"{self.name}/replaced" if len(rows) else None,
            num_classes=self.num_classes,
            name="real",
            rate=0.0,
        )

    def _hold_out(self, size: int) -> None:
        """Leave out the fold, and choose the samples of `val` among the rest of the first `size` training samples."""
        shuffled = torch.randperm(size, generator=Streams(self.split_seed)("held out"))
        self.fold_index = torch.empty(0, dtype=torch.int64)
        if self.fold is not None:
            self.fold_index = rows_of_fold(self.labels.given, self.fold, self.split_seed)
            shuffled = shuffled[~torch.isin(shuffled, self.fold_index)]
        self.val_index = shuffled[: self.noisy_val].sort().values
        self._pool = shuffled[self.noisy_val :].sort().values

    def _add_threshold_samples(self) -> None:
        """Give threshold samples, chosen among the samples to train on, the label of their class of their own."""
        if self.threshold is None:
            return
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
