"""Images in memory: one tensor on the training device, read by index."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from slnlab.data.augment import pad, view
from slnlab.data.batches import EvaluationBatch, EvaluationBatches, Labels
from slnlab.data.datamodule import EvaluationSplit, IndexedDataModule, Stored
from slnlab.data.inject import LabelNoise
from slnlab.data.source import LabelledImages, Source, Split
from slnlab.errors import ConfigError, DataError
from slnlab.processes.distributed import shard


class ImageDataModule(IndexedDataModule):
    """Images as one uint8 tensor on the training device, with whole batches augmented at once.

    Label noise is added once, in `setup`.

    Args:
        source: the data set.
        noise: the label noise; a mapping is a node of `conf/noise/`.
        name: name of the data set; None: that of `source`.
        channels: required number of image channels; None: any.
        num_train: required number of training images; None: any.
        options: see `IndexedDataModule`.
    """

    def __init__(
        self,
        source: Source,
        noise: LabelNoise | Mapping[str, Any],
        *,
        name: str | None = None,
        channels: int | None = None,
        num_train: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(name=name or source.name, **options)
        self.source = source
        self.noise = noise if isinstance(noise, LabelNoise) else LabelNoise.from_config(noise)
        self.expected = {"channels": channels, "num_train": num_train}
        self._images: Tensor
        self._test_images: Tensor | None = None
        self._test_labels: Tensor
        self._pixels_hash: str | None = None

    def to(self, device: torch.device | str) -> ImageDataModule:
        """Move images and labels; returns itself."""
        super().to(device)
        self._images = self._images.to(device)
        if self._test_images is not None:
            self._test_images, self._test_labels = self._test_images.to(device), self._test_labels.to(device)
        return self

    def pixels_hash(self) -> str | None:
        return self._pixels_hash

    def evaluation_batches(self, split: EvaluationSplit) -> EvaluationBatches:
        if split == "val":
            images, rows, labels = self._images, self.val_index, self.labels.given
            padding = self.crop_flip.padding
        else:
            assert self._test_images is not None
            images, labels, padding = self._test_images, self._test_labels, 0
            rows = torch.arange(len(labels), device=labels.device)

        def make(step: int, index: Tensor) -> EvaluationBatch:
            part = shard(len(index)).of(index)
            pixels = view(images, part, padding, self._size)
            return EvaluationBatch(self.normalise(pixels), labels[part])

        return EvaluationBatches(rows.split(self.eval_batch_size), make)

    def _stored_in(self, batches: Sequence[Tensor]) -> Callable[[int], Stored]:
        return lambda number: (self._images, batches[number])

    def _prepare(self) -> None:
        self.source.prepare()
        self.noise.prepare()

    def _read(self) -> None:
        data = self._load("train")
        self._agree(data)
        if not getattr(self.source, "verify", True):
            self._pixels_hash = hashlib.sha256(data.images.numpy().tobytes()).hexdigest()
        available = len(data.labels)
        size = self._training_size(available)
        if size < available:  # copies free the memory of the rest
            data = LabelledImages(data.images[:size].clone(), data.labels[:size].clone())
        self._check_labels("training", data.labels)
        noisy, self.noise_record = self.noise.apply(data, self.num_classes, self.classes, available)
        record = self.noise_record
        self.labels = Labels(record.given, record.true, record.wrong)
        self._hold_out(size)
        self._size = (noisy.images.shape[2], noisy.images.shape[3])
        self._images = pad(noisy.images, self.crop_flip.padding)
        if self.test:
            test = self._load("test")
            self._check_labels("test", test.labels)
            self._test_images, self._test_labels = test.images, test.labels

    def _load(self, split: Split) -> LabelledImages:
        data = self.source.load(split)
        if not isinstance(data, LabelledImages):
            raise DataError(f"{self.name}: load must return LabelledImages, not a {type(data).__name__}")
        if data.images.dtype != torch.uint8 or data.images.ndim != 4:
            found = f"{data.images.dtype} of shape {tuple(data.images.shape)}"
            raise DataError(f"{self.name}: {split} images must be uint8 (N, channels, height, width), not {found}")
        return data

    def _agree(self, data: LabelledImages) -> None:
        channels = data.images.shape[1]
        for key, found in (("channels", channels), ("num_train", len(data.images))):
            if self.expected[key] not in (None, found):
                raise DataError(f"data.{key}: the configuration says {self.expected[key]}, the files hold {found}")
        if len(self.normalise.mean) != channels:
            raise ConfigError(f"data.mean: has {len(self.normalise.mean)} values, the images {channels} channels")
        if len(data.labels) != len(data.images):
            raise DataError(f"{self.name}: has {len(data.images)} training images, but {len(data.labels)} labels")
