"""The LightningDataModule that images in memory and images from files share: batches by index, order, augmentation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor

from slnlab.data.augment import CropFlip, Normalise
from slnlab.data.batches import Batch, EvaluationBatches, Images, Labels, Samples, in_batches
from slnlab.errors import ConfigError, DataError
from slnlab.noise import NoiseRecord
from slnlab.processes.batching import batch_sizes
from slnlab.processes.distributed import Shard, shard, stop_if_requested
from slnlab.record.result import Preprocessing
from slnlab.schema.kinds import Classes, Count, CountOrZero, Positive
from slnlab.streams import Streams

View = Literal["augmented", "clean"]

STEPS_PER_CALL = 16
"""Optimiser steps in one `training_step`: Lightning's own cost per call is paid once for so many."""

Split = Literal["val", "val_clean", "test"]

Stored = tuple[Tensor, Tensor]
"""Images (M, channels, H + 2p, W + 2p) uint8 on the training device, p the padding, and which of them (B,) int64."""


class IndexedDataModule(pl.LightningDataModule, ABC):
    """What methods and callbacks ask of the data: batches by index of the sample table, made on the training device.

    A subclass reads (`_read`), says where images are (`_stored_in`) and what an evaluation sees (`evaluation_batches`);
    it may choose each epoch's samples (`rows`). Order, random crop, flip and normalisation are here, per sample, from
    named streams; and each process's part of a batch.

    A loop asks for the batches of an `epoch`, or for those of its own choice (`reading`, `passes`). Lightning gets the
    epoch's in groups of `STEPS_PER_CALL`, each an iterable of `Batch`. Evaluation batches come from the splits `val`
    (held-out training samples, with their *noisy* labels), `val_clean` (of a data set that has correctly labelled ones
    to choose by) and `test`.

    Args:
        num_classes: C.
        batch_size: global training batch, ≥ 2; see `slnlab.processes.batching` for the last batch of an epoch.
        eval_batch_size: batch of evaluation passes.
        mean, std: per channel, in units of [0, 1].
        padding, flip: random crop out of images with so many pixels more on each side, and random horizontal flip.
        train_size: use the first so many training samples; None: all.
        noisy_val: training samples held out for choosing, with their noisy labels.
        split_seed: which ones.
        test: False: the test set is never read.
        seed: of order and augmentation.
        classes: their names.
        name: of the data set.

    After `setup`: `labels` (in data set order), `train_index` and `val_index` (rows of them), and `noise_record` (None
    where the true labels are unknown).
    """

    reads_while_training = False
    """Images are read from their files at every epoch."""

    def __init__(
        self,
        *,
        num_classes: Classes,
        batch_size: Count,
        eval_batch_size: Count,
        mean: Sequence[float],
        std: Sequence[Positive],
        padding: CountOrZero = 0,
        flip: bool = False,
        train_size: Count | None = None,
        noisy_val: CountOrZero = 0,
        split_seed: CountOrZero = 0,
        test: bool = True,
        seed: int = 0,
        classes: Sequence[str] | None = None,
        name: str,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.name = name
        self.classes = list(classes) if classes else None
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.train_size, self.noisy_val, self.split_seed, self.test = train_size, noisy_val, split_seed, test
        self.seed = seed
        self.crop_flip = CropFlip(padding, flip)
        self.normalise = Normalise(mean, std)
        self.noise_record: NoiseRecord | None
        self.labels: Labels
        self.val_index: Tensor
        self._pool: Tensor
        self._size: tuple[int, int]
        self._prepared = self._ready = False

    # What a subclass writes

    @abstractmethod
    def _prepare(self) -> None:
        """Fetch or look for files, in one process."""

    @abstractmethod
    def _read(self) -> None:
        """Set `noise_record`, `labels`, `_size` (H, W), and call `_hold_out`."""

    @abstractmethod
    def _stored_in(self, batches: Sequence[Tensor]) -> Callable[[int], Stored]:
        """Where the images of these batches of training samples, (B,) each, are; asked for by number, see `reading`."""

    @abstractmethod
    def evaluation_batches(self, split: Split) -> EvaluationBatches:
        """Batches of a split in data set order, this process's part of each, which may be empty."""

    # What a subclass may write otherwise

    def rows(self, epoch: int) -> Tensor:
        """The training samples of an epoch, ascending."""
        return self._pool

    @property
    def evaluation_splits(self) -> list[Split]:
        splits: list[Split] = []
        if self.noisy_val:
            splits.append("val")
        if self.test:
            splits.append("test")
        return splits

    # What Lightning calls

    def prepare_data(self) -> None:
        if not self._prepared:
            self._prepare()
        self._prepared = True

    def setup(self, stage: str | None = None) -> None:
        """Read, spoil, split, and move to the device; once, whatever the stage."""
        if not self._ready:
            self._streams = Streams(self.seed)
            self._read()
            self._ready = True
        if self.trainer is not None:
            self.to(self.trainer.strategy.root_device)

    def train_dataloader(self) -> EpochBatches:
        return EpochBatches(self)

    def val_dataloader(self) -> dict[str, EvaluationBatches]:
        return {split: self.evaluation_batches(split) for split in self.evaluation_splits}

    def test_dataloader(self) -> EvaluationBatches:
        if not self.test:
            raise ConfigError("data.test=false: this datamodule has no test set")
        return self.evaluation_batches("test")

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Nothing to move: batches are made on the device."""
        return batch

    # What methods, callbacks and anybody else may use

    @property
    def train_index(self) -> Tensor:
        """The training samples of the epoch that the trainer is in, ascending."""
        return self.rows(self.trainer.current_epoch if self.trainer is not None else 0)

    @property
    def image_size(self) -> tuple[int, int]:
        return self._size

    @property
    def preprocessing(self) -> Preprocessing:
        """From an image to what the network sees in evaluation."""
        return Preprocessing(
            resize=self._size, crop=self._size, mean=list(self.normalise.mean), std=list(self.normalise.std)
        )

    @property
    def steps_per_epoch(self) -> int:
        return len(batch_sizes(len(self.train_index), self.batch_size))

    def noise_summary(self) -> dict[str, Any]:
        """Of the label noise, for the result."""
        assert self.noise_record is not None
        return self.noise_record.summary()

    def pixels_hash(self) -> str | None:
        """SHA-256 of the training images as they were read (`data.source.verify=false`); None: they were verified."""
        return None

    def paths(self, rows: Tensor) -> list[str] | None:
        """Of training samples (M,) the files of their images, as the data set names them; None: they have none."""
        return None

    def inspect(self, directory: Path) -> None:
        """Say what is odd about the data, before they are trained on; once, in one process, after `setup`.

        Args:
            directory: the run's, for what is too long to say.

        Raises:
            slnlab.errors.DataError: they cannot be trained on.
        """

    def to(self, device: torch.device | str) -> IndexedDataModule:
        """Move the labels and whatever else batches are made from; returns itself."""
        self.labels = self.labels.to(device)
        self._pool, self.val_index = self._pool.to(device), self.val_index.to(device)
        self._streams = Streams(self.seed, device)
        return self

    def reading(self, batches: Sequence[Tensor], *, whole: bool = False) -> Callable[[int], Images]:
        """The images of these batches of training samples, which will be asked for by number.

        Where images stream from disk, worker processes read ahead as long as the numbers come in order, from the first
        one that is asked for to the last.

        Args:
            batches: rows of the sample table (B,), of whole global batches; B may be 0.
            whole: every process has all of each batch; otherwise its part.
        """
        parts = [Shard(0, len(rows), len(rows)) if whole else shard(len(rows)) for rows in batches]
        mine = [part.of(rows) for part, rows in zip(parts, batches, strict=True)]
        stored = self._stored_in(mine)

        def read(number: int) -> Images:
            return Images(mine[number], parts[number], *stored(number), self.crop_flip, self.normalise, self._size)

        return read

    def epoch(self, epoch: int) -> Iterator[Callable[[], Batch]]:
        """The training batches of an epoch, in its order, this process's part of each, made when called."""
        rows = self.rows(epoch)
        order = rows[torch.randperm(len(rows), generator=self._streams("order", epoch), device=rows.device)]
        batches = in_batches(order, self.batch_size)
        read = self.reading(batches)
        for step in range(len(batches)):
            yield partial(self._training_batch, read, epoch, step)

    def _training_batch(self, read: Callable[[int], Images], epoch: int, step: int) -> Batch:
        return read(step).batch(self._streams("augmentation", epoch, step))

    def in_order(self, epoch: int) -> Iterator[tuple[int, Images]]:
        """The epoch's training samples in data set order, in numbered batches; of each this process's part, if any.

        Raises:
            Stopped: a signal told the run to stop.
        """
        batches = self.rows(epoch).split(self.eval_batch_size)
        read = self.reading(batches)
        for step in range(len(batches)):
            stop_if_requested()
            images = read(step)
            if len(images.index):
                yield step, images

    def passes(self, views: View, purpose: str, epoch: int) -> Iterator[Samples]:
        """One pass over the epoch's training samples in data set order, for predictions; this process's part of it.

        Args:
            views: through the training augmentation, or the images as they are.
            purpose, epoch: name the random stream of the augmentation.

        Raises:
            Stopped: a signal told the run to stop.
        """
        for step, images in self.in_order(epoch):
            generator = self._streams(purpose, epoch, step) if views == "augmented" else None
            yield Samples(images.index, images.view(generator))

    # How it comes about

    def _training_size(self, there: int) -> int:
        """How many of the training samples that are there are used."""
        size = there if self.train_size is None else self.train_size
        if not 1 <= size <= there:
            raise ConfigError(f"data.train_size: {self.name} has {there} training images, not {size}")
        if not 0 <= self.noisy_val < size:
            raise ConfigError(f"data.noisy_val: must lie in [0, {size}), not {self.noisy_val}")
        return size

    def _hold_out(self, size: int) -> None:
        """Choose among the training samples those of `val`."""
        shuffled = torch.randperm(size, generator=Streams(self.split_seed)("held out"))
        self.val_index = shuffled[: self.noisy_val].sort().values
        self._pool = shuffled[self.noisy_val :].sort().values

    def _check_labels(self, split: str, labels: Tensor) -> None:
        if not 0 <= int(labels.min()) <= int(labels.max()) < self.num_classes:
            raise DataError(
                f"{self.name}: a {split} label lies outside the {self.num_classes} classes "
                f"(found {int(labels.min())} to {int(labels.max())})"
            )


class EpochBatches:
    """The batches of the epoch that the trainer is in, `STEPS_PER_CALL` to a group; each is made when it is reached."""

    def __init__(self, datamodule: IndexedDataModule) -> None:
        self.datamodule = datamodule

    def __len__(self) -> int:
        return -(-self.datamodule.steps_per_epoch // STEPS_PER_CALL)

    def __iter__(self) -> Iterator[Iterator[Batch]]:
        trainer = self.datamodule.trainer
        batches = (make() for make in self.datamodule.epoch(trainer.current_epoch if trainer else 0))
        for _ in range(len(self)):
            yield islice(batches, STEPS_PER_CALL)
