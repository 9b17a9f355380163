"""Base class of the datamodules: batches by index, their order, and augmentation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import pytorch_lightning as pl
import torch
from torch import Tensor
from torchvision.transforms import v2

from slnlab.data.augment import CropFlip, Normalise
from slnlab.data.batches import Batch, EvaluationBatches, Images, Samples, in_batches
from slnlab.data.inject import LabelNoise
from slnlab.data.oversampling import equally_often
from slnlab.data.strong_view import SecondView, StrongView
from slnlab.data.training_samples import TrainingSamples
from slnlab.data.transforms import augmentation
from slnlab.errors import ConfigError
from slnlab.processes.batching import batch_sizes
from slnlab.processes.distributed import Shard, shard, stop_if_requested
from slnlab.record.result import Preprocessing
from slnlab.schema.kinds import Augmentation, Count, CountOrZero, Degrees, Positive
from slnlab.streams import Streams

View = Literal["augmented", "clean"]

STEPS_PER_CALL = 16
"""Optimiser steps in one `training_step`. Lightning's cost per call is paid once for all of them."""

EvaluationSplit = Literal["val", "val_clean", "test"]

Stored = tuple[Tensor, Tensor]
"""Images (M, channels, H, W) uint8 on the training device, perhaps with margins, and rows of them (B,) int64."""


class IndexedDataModule(TrainingSamples, pl.LightningDataModule, ABC):
    """Batches for methods and callbacks, made on the training device from rows of the sample table.

    A subclass reads the data (`_read`), fetches images (`_stored_in`) and makes evaluation batches
    (`evaluation_batches`); it may also choose the samples of each epoch (`rows`). This class decides the order, crops,
    flips and normalises with named random streams, and gives each process its part of a batch.

    A loop takes the batches of an `epoch`, or chooses its own (`reading`, `passes`). Lightning gets an epoch in groups
    of `STEPS_PER_CALL`; each group is an iterable of `Batch`. Evaluation splits are `val` (held-out training samples
    with *noisy* labels), `val_clean` (validation samples with clean labels, if the data set has them) and `test`.

    Args:
        source, noise: see `TrainingSamples`.
        batch_size: size of the global training batch, ≥ 2; see `slnlab.processes.batching` for the last batch.
        eval_batch_size: batch size of evaluation passes. Label correction, SSR, PES and the softmax average also draw
            random views by batches of this size, so it changes their training.
        mean: mean of each channel, in units of [0, 1]; None: measured on the training samples, in memory only.
        std: standard deviation of each channel, in the same units, > 0; likewise.
        padding: largest shift of a random crop in each direction, in pixels; see `CropFlip`.
        flip: flip images horizontally at random.
        rotation: largest angle of a random rotation after crop and flip, in degrees; 0: none.
        augment: the training augmentation, see `slnlab.data.transforms.augmentation`.
        oversampling: training draws each given label equally often, see `equally_often`. Other passes over the samples
            of an epoch have each of them once.
        test: use the test set; False: it is never read.
        clean_val: evaluate on cleanly labelled validation samples, as `val_clean`.
        seed: seed of order and augmentation.
        samples: see `TrainingSamples`.

    After `setup` there are `labels` (in data set order); `train_index`, `val_index` and `fold_index` (rows of them);
    and `noise_record` (None if the true labels are unknown).
    """

    reads_while_training = False
    """True: every epoch reads the image files again."""

    vectors: ClassVar[bool] = False
    """True: the samples are vectors (B, D), and only a network with the same class variable takes them."""

    views: ClassVar[type[Images]] = Images
    scaling: ClassVar[type[Normalise]] = Normalise

    def __init__(
        self,
        source: Any,
        noise: LabelNoise | Mapping[str, Any],
        *,
        batch_size: Count,
        eval_batch_size: Count,
        mean: Sequence[float] | None,
        std: Sequence[Positive] | None,
        padding: CountOrZero = 0,
        flip: bool = False,
        rotation: Degrees = 0.0,
        augment: Augmentation = "crop_flip",
        oversampling: bool = False,
        test: bool = True,
        clean_val: bool = False,
        seed: int = 0,
        **samples: Any,
    ) -> None:
        super().__init__(source, noise, **samples)
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.oversampling = oversampling
        self.test, self.clean_val = test, clean_val
        self.seed = seed
        self.crop_flip = CropFlip(padding, flip, rotation)
        self.augment = augment
        if (mean is None) != (std is None):
            raise ConfigError("data.mean, data.std: give both, or null for both, which measures them")
        if mean is not None and std is not None:
            self.normalise = self.scaling(mean, std)
        self._size: tuple[int, int]
        self._prepared = self._ready = False

    # A subclass writes these

    @abstractmethod
    def _prepare(self) -> None:
        """Fetch the files, or check that they exist; in one process."""

    @abstractmethod
    def _read(self) -> None:
        """Set `_size` (H, W), and call `_kept`, `_use_labels`, `_hold_out` and `_add_threshold_samples`."""

    @abstractmethod
    def _stored_in(self, batches: Sequence[Tensor]) -> Callable[[int], Stored]:
        """Return a function from the number of a batch to its images; `batches` are rows (B,). See `reading`."""

    @abstractmethod
    def evaluation_batches(self, split: EvaluationSplit) -> EvaluationBatches:
        """Return the batches of a split in data set order; this process's part of each, which may be empty."""

    # A subclass may replace these

    def rows(self, epoch: int) -> Tensor:
        """Return the training samples (M,) of an epoch, ascending."""
        return self._pool

    @property
    def evaluation_splits(self) -> list[EvaluationSplit]:
        chosen = {"val": self.noisy_val > 0, "val_clean": self.clean_val, "test": self.test}
        return [split for split in get_args(EvaluationSplit) if chosen[split]]

    # Lightning calls these

    def prepare_data(self) -> None:
        if not self._prepared:
            self._prepare()
        self._prepared = True

    def setup(self, stage: str | None = None) -> None:
        """Read the data, add label noise, split, and move to the device; once for all stages."""
        if not self._ready:
            self._streams = Streams(self.seed)
            self._read()
            self._augmentation = augmentation(self.augment, self._size, self.crop_flip.flip)
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
        """Return the batch unchanged: it is on the device already."""
        return batch

    # Methods, callbacks and other code use these

    @property
    def train_index(self) -> Tensor:
        """The training samples (M,) of the trainer's current epoch, ascending."""
        return self.rows(self.trainer.current_epoch if self.trainer is not None else 0)

    @property
    def drawn_index(self) -> Tensor:
        """The samples that training sees in the trainer's current epoch, each once, ascending."""
        if not self.oversampling:
            return self.train_index
        return self._drawn_rows(self.trainer.current_epoch if self.trainer is not None else 0).unique()

    @property
    def image_size(self) -> tuple[int, int]:
        return self._size

    @property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing of images in evaluation."""
        return Preprocessing(
            resize=self._size, crop=self._size, mean=list(self.normalise.mean), std=list(self.normalise.std)
        )

    @property
    def steps_per_epoch(self) -> int:
        return len(batch_sizes(len(self.train_index), self.batch_size))

    def pixels_hash(self) -> str | None:
        """Return the SHA-256 of unverified training images (`data.source.verify=false`); None: they were verified."""
        return None

    def paths(self, rows: Tensor) -> list[str] | None:
        """Return the names of training samples (M,): their image files as the data set names them; None: no names."""
        return None

    def inspect(self, directory: Path) -> None:
        """Report oddities of the data before training; once, in one process, after `setup`.

        Args:
            directory: directory of the run, for long lists.

        Raises:
            slnlab.errors.DataError: training on the data is impossible.
        """

    def to(self, device: torch.device | str) -> IndexedDataModule:
        """Move the labels and the parts of batches to a device; return itself."""
        self.labels = self.labels.to(device)
        self._pool, self.val_index = self._pool.to(device), self.val_index.to(device)
        self._streams = Streams(self.seed, device)
        return self

    def reading(self, batches: Sequence[Tensor], *, whole: bool = False) -> Callable[[int], Images]:
        """Return a function from the number of a batch to its images.

        Images on disk are read ahead by worker processes while the numbers come in order.

        Args:
            batches: rows of the sample table (B,) of whole global batches; B may be 0.
            whole: give every process the whole batches; False: its parts.
        """
        parts = [Shard(0, len(rows), len(rows)) if whole else shard(len(rows)) for rows in batches]
        local = [part.of(rows) for part, rows in zip(parts, batches, strict=True)]
        stored = self._stored_in(local)

        def read(number: int) -> Images:
            pixels, rows = stored(number)
            options = (self.crop_flip, self.normalise, self._size, self._augmentation)
            return self.views(local[number], parts[number], pixels, rows, *options)

        return read

    def strong_view(self, policy: v2.Transform, cutout: int = 0, normalise: Normalise | None = None) -> SecondView:
        """The strong view of methods that learn from two.

        Args:
            policy, cutout: see `slnlab.data.strong_view.StrongView`.
            normalise: normalisation of its pixels; None: that of the data.
        """
        return StrongView(policy, self.crop_flip, normalise or self.normalise, cutout)

    def order(self, epoch: int) -> tuple[Tensor, ...]:
        """Return the rows (B,) of each whole training batch of an epoch."""
        return self._shuffled(self._drawn_rows(epoch), "order", epoch)

    def epoch(self, epoch: int) -> Iterator[Callable[[], Batch]]:
        """Yield functions that make the training batches of an epoch, in its order; this process's part of each."""
        return self.shuffled(self._drawn_rows(epoch), "", epoch)

    def shuffled(self, rows: Tensor, name: str, *position: int) -> Iterator[Callable[[], Batch]]:
        """Yield functions that make the training batches of a pass over these rows (M,); this process's part of each.

        Args:
            rows: of the samples.
            name: of the method whose pass it is; begins the names of its random streams, `order` and `augmentation`.
            position: of the pass in the run, such as its epoch.
        """
        batches = self._shuffled(rows, f"{name}order", *position)
        read = self.reading(batches)
        for step in range(len(batches)):
            yield partial(self._training_batch, read, f"{name}augmentation", *position, step)

    def _shuffled(self, rows: Tensor, purpose: str, *position: int) -> tuple[Tensor, ...]:
        order = torch.randperm(len(rows), generator=self._streams(purpose, *position), device=rows.device)
        return in_batches(rows[order], self.batch_size)

    def _drawn_rows(self, epoch: int) -> Tensor:
        """The rows (M,) that training draws in an epoch; with oversampling some repeat and some are missing."""
        rows = self.rows(epoch)
        if not self.oversampling:
            return rows
        return rows[equally_often(self.labels.given[rows], self._streams("oversampling", epoch))]

    def _training_batch(self, read: Callable[[int], Images], purpose: str, *position: int) -> Batch:
        return read(position[-1]).batch(self._streams(purpose, *position))

    def in_order(self, epoch: int) -> Iterator[tuple[int, Images]]:
        """Yield numbered batches of an epoch's training samples in data set order; this process's part of each.

        Raises:
            Stopped: a signal stopped the run.
        """
        batches = self.rows(epoch).split(self.eval_batch_size)
        read = self.reading(batches)
        for step in range(len(batches)):
            stop_if_requested()
            images = read(step)
            if len(images.index):
                yield step, images

    def passes(self, views: View, purpose: str, epoch: int) -> Iterator[Samples]:
        """Yield this process's part of an epoch's training samples in data set order, for predictions.

        Args:
            views: "augmented" as in training, or "clean".
            purpose, epoch: name of the augmentation's random stream.

        Raises:
            Stopped: a signal stopped the run.
        """
        for step, images in self.in_order(epoch):
            generator = self._streams(purpose, epoch, step) if views == "augmented" else None
            yield Samples(images.index, images.view(generator))


class EpochBatches:
    """The batches of the trainer's current epoch in groups of `STEPS_PER_CALL`. Each is made when a loop reaches it."""

    def __init__(self, datamodule: IndexedDataModule) -> None:
        self.datamodule = datamodule

    def __len__(self) -> int:
        return -(-self.datamodule.steps_per_epoch // STEPS_PER_CALL)

    def __iter__(self) -> Iterator[Iterator[Batch]]:
        trainer = self.datamodule.trainer
        batches = (make() for make in self.datamodule.epoch(trainer.current_epoch if trainer else 0))
        for _ in range(len(self)):
            yield islice(batches, STEPS_PER_CALL)
