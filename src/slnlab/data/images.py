"""Images in memory: one tensor on the training device, read by index."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from slnlab.data.augment import CropFlip, Normalise
from slnlab.data.batches import EvaluationBatch, EvaluationBatches
from slnlab.data.datamodule import EvaluationSplit, IndexedDataModule, Stored
from slnlab.data.inject import LabelNoise
from slnlab.data.source import LabelledImages, Source, Split, sample_names
from slnlab.errors import ConfigError, DataError
from slnlab.processes.distributed import shard


class ImageDataModule(IndexedDataModule):
    """Images as one uint8 tensor on the training device, with whole batches augmented at once.

    Label noise is added once, in `setup`.

    Args:
        source, noise: see `TrainingSamples`.
        channels: required number of image channels; None: any.
        options: see `IndexedDataModule`.
    """

    def __init__(
        self, source: Source, noise: LabelNoise | Mapping[str, Any], *, channels: int | None = None, **options: Any
    ) -> None:
        super().__init__(source, noise, **options)
        self.channels = channels
        self._images: Tensor
        self._evaluated: dict[EvaluationSplit, LabelledImages] = {}
        self._pixels_hash: str | None = None
        self._names: list[str] | None = None

    def to(self, device: torch.device | str) -> ImageDataModule:
        """Move images and labels; returns itself."""
        super().to(device)
        self._images = self._images.to(device)
        self._evaluated = {
            split: LabelledImages(data.images.to(device), data.labels.to(device))
            for split, data in self._evaluated.items()
        }
        return self

    def pixels_hash(self) -> str | None:
        return self._pixels_hash

    def paths(self, rows: Tensor) -> list[str] | None:
        return None if self._names is None else [self._names[row] for row in rows.tolist()]

    def evaluation_batches(self, split: EvaluationSplit) -> EvaluationBatches:
        if split == "val":
            images, rows, labels = self._images, self.val_index, self.labels.given
        else:
            images, labels = self._evaluated[split]
            rows = torch.arange(len(labels), device=labels.device)

        def make(step: int, index: Tensor) -> EvaluationBatch:
            part = shard(len(index))
            kept = part.of(index)
            seen = self.views(kept, part, images, kept, CropFlip(0, False), self.normalise, self._size)
            return EvaluationBatch(seen.view(), labels[kept])

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
        kept, available = self._kept(data.labels), len(data.labels)
        images = data.images
        if len(kept.rows) < available:  # copies free the memory of the rest
            images = images[kept.rows]
        del data
        if not hasattr(self, "normalise"):
            self.normalise = self._measured(images)
        every = sample_names(self.source)
        names = self._names = None if every is None else [every[row] for row in kept.rows.tolist()]
        made = None if names is None else lambda: names
        copied = images.clone  # the function may edit its images in place
        added = self._use_labels(kept, made, images=copied, num_train=lambda: available)
        if added is not None:
            images = self.noise.with_donors(images, added)
        self._hold_out(len(kept.rows))
        self._add_threshold_samples()
        self._size, self._images = self._size_of(images), images.contiguous()
        for split in self.evaluation_splits:
            if split != "val":
                self._evaluated[split] = self._load(split)
                self._check_labels(split, self._evaluated[split].labels)

    def _load(self, split: Split) -> LabelledImages:
        data = self.source.load(split)
        if not isinstance(data, LabelledImages):
            raise DataError(f"{self.name}: load must return LabelledImages, not a {type(data).__name__}")
        for part, values in data._asdict().items():
            if not isinstance(values, Tensor):
                found = type(values).__name__
                raise DataError(f"{self.name}: {split} {part} must be a tensor, not {found}; use torch.from_numpy")
        if not self._fits(data.images):
            found = f"{data.images.dtype} of shape {tuple(data.images.shape)}"
            raise DataError(f"{self.name}: {split} images must be {self.allowed}, not {found}")
        return data

    # For vectors in place of images

    allowed: ClassVar[str] = "uint8 (N, channels, height, width)"

    def _fits(self, images: Tensor) -> bool:
        return images.dtype == torch.uint8 and images.ndim == 4

    def _measured(self, images: Tensor) -> Normalise:
        """The normalisation by the training images (N, channels, H, W)."""
        levels = torch.arange(256, dtype=torch.float64) / 255
        mean, std = [], []
        for channel in range(images.shape[1]):
            shares = images[:, channel].flatten().bincount(minlength=256).double()
            shares /= shares.sum()
            mean.append(float((shares * levels).sum()))
            std.append(float((shares * (levels - mean[-1]) ** 2).sum().sqrt()))
        if not min(std) > 0:
            raise DataError(f"{self.name}: all pixels of channel {std.index(min(std))} have one value")
        return Normalise(mean, std)

    def _size_of(self, images: Tensor) -> tuple[int, int]:
        """The size (H, W) of the images."""
        return images.shape[2], images.shape[3]

    def _agree(self, data: LabelledImages) -> None:
        channels = data.images.shape[1]
        if self.channels not in (None, channels):
            raise DataError(f"data.channels: the configuration says {self.channels}, the files hold {channels}")
        if hasattr(self, "normalise") and len(self.normalise.mean) != channels:
            raise ConfigError(f"data.mean: has {len(self.normalise.mean)} values, the images {channels} channels")
        if len(data.labels) != len(data.images):
            raise DataError(f"{self.name}: has {len(data.images)} training images, but {len(data.labels)} labels")
