"""Labels and batches of a data set: for training and for evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from slnlab.data.augment import CropFlip, Draws, Normalise, view
from slnlab.processes.batching import batch_sizes
from slnlab.processes.distributed import Shard


def in_batches(rows: Tensor, batch_size: int) -> tuple[Tensor, ...]:
    """Cut rows (M,) into batches of at least two, see `slnlab.processes.batching`; a single row makes no batch."""
    sizes = batch_sizes(len(rows), batch_size)
    return rows[: sum(sizes)].split(sizes)


def drawn(rows: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Draw rows (size,) from rows (M,), all of them before any is drawn again; none from no rows."""
    rounds = -(-size // len(rows)) if len(rows) else 0
    orders = [torch.randperm(len(rows), generator=generator, device=rows.device) for _ in range(rounds)]
    return rows[torch.cat(orders)[:size]] if orders else rows[:0]


class Labels(NamedTuple):
    """The labels of all training samples, in data set order.

    Args:
        given: given labels (N,) int64, the labels of training.
        true: true labels (N,) int64, if known.
        wrong: mask (N,) bool of samples with a label that does not describe their image, if known.
        weight: weights (N,) float32 in [0, 1] of the samples in the loss; None: all 1.
        target: first targets (N, C) float32 of training; None: the given labels.
    """

    given: Tensor
    true: Tensor | None = None
    wrong: Tensor | None = None
    weight: Tensor | None = None
    target: Tensor | None = None

    def to(self, device: torch.device | str) -> Labels:
        """Return the labels on a device."""
        others = (None if column is None else column.to(device) for column in self[1:])
        return Labels(self.given.to(device), *others)


class Samples(NamedTuple):
    """Rows of the sample table (B,) int64, and their images (B, channels, H, W) float32."""

    index: Tensor  # type: ignore[assignment]  # the usual name; it hides tuple.index
    image: Tensor


class Batch(NamedTuple):
    """Training batch of a method: `Samples` of this process's part of a global batch, and that part."""

    index: Tensor  # type: ignore[assignment]
    image: Tensor
    shard: Shard
    pixels: Callable[[], Tensor] | None = None
    """Returns the images before augmentation, see `Images.pixels`."""
    own: Any = None
    """Attachment of the method for one pass, see `SingleNetwork.attached`."""

    def mean(self, losses: Tensor) -> Tensor:
        """Return this process's share of the mean loss over the global batch: losses (B,) → scalar.

        The shares of all processes add up to the mean. The share of a single process is the mean.

        Raises:
            ValueError: the losses are no vector. The mean of a mean would scale the gradient.
        """
        if losses.ndim != 1:
            raise ValueError(f"Batch.mean: losses must be (B,), one for each sample, not {tuple(losses.shape)}")
        return losses.sum() / self.shard.total


@dataclass
class Images:
    """The training images of a batch. They are read once; each call of `view` makes another view of them.

    Args:
        index: rows of the sample table (B,).
        shard: rows of the global batch. Draws are made for the global batch and cut, so that the augmentation of a
            sample does not depend on the number of processes.
        stored, rows: images (M, channels, H, W) uint8, or with margins (M, channels, H + 2p, W + 2p) where p is the
            padding of `crop_flip`; and rows of them (B,) int64.
        crop_flip, normalise: the training augmentation.
        size: (H, W).
        augment: makes the augmented images.
    """

    index: Tensor
    shard: Shard
    stored: Tensor
    rows: Tensor
    crop_flip: CropFlip
    normalise: Normalise
    size: tuple[int, int]
    augment: Augment = field(default_factory=lambda: crop_flipped)

    def view(self, generator: torch.Generator | None = None) -> Tensor:
        """Return network input (B, channels, H, W) float32, augmented if there is a generator."""
        if generator is None or not len(self.index):
            return self.normalise(self.pixels())
        return self.normalise(self.augment(self, generator))

    def batch(self, generator: torch.Generator) -> Batch:
        """Return an augmented training batch."""
        return Batch(self.index, self.view(generator), self.shard, self.pixels)

    def pixels(self) -> Tensor:
        """Return the images without augmentation, uint8 (B, channels, H, W)."""
        return view(self.stored, self.rows, self.crop_flip.padding, self.size)

    def whole(self) -> Tensor:
        """Return the images without augmentation, with margins where they have some, uint8 (B, channels, H', W')."""
        return self.stored.index_select(0, self.rows)


Augment = Callable[[Images, torch.Generator], Tensor]
"""Images of a batch, at least one, and its generator → augmented images, uint8 (B, channels, H, W)."""


def crop_flipped(images: Images, generator: torch.Generator) -> Tensor:
    """Random crop, flip and rotation of a whole batch; see `Augment`."""
    draws = images.crop_flip.draw(images.shard.total, generator, images.index.device)
    if len(images.shard) < images.shard.total:
        draws = Draws(*map(images.shard.of, draws))
    crops = images.crop_flip.apply(images.stored, images.rows, draws, images.size)
    return images.crop_flip.rotated(crops, images.shard, generator)


class Vectors(Images):
    """The training vectors of a batch, (B, D). `stored` is (N, D) float32; there is no augmentation."""

    def view(self, generator: torch.Generator | None = None) -> Tensor:
        return self.normalise(self.pixels())

    def pixels(self) -> Tensor:
        """Return the vectors as they are stored (B, D)."""
        return self.stored.index_select(0, self.rows)


class EvaluationBatch(NamedTuple):
    """Images (B, channels, H, W) float32, and labels (B,) int64 to compare predictions with."""

    image: Tensor
    label: Tensor


class EvaluationBatches:
    """Batches of a split in data set order. Each is made when the loop reaches it."""

    def __init__(self, rows: Sequence[Tensor], make: Callable[[int, Tensor], EvaluationBatch]) -> None:
        self.rows, self.make = rows, make

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[EvaluationBatch]:
        return map(self.make, range(len(self.rows)), self.rows)
