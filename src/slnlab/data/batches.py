"""What travels from the data to a method: to learn from, and to be evaluated on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from slnlab.data.augment import CropFlip, Draws, Normalise, view
from slnlab.processes.batching import batch_sizes
from slnlab.processes.distributed import Shard


def in_batches(rows: Tensor, batch_size: int) -> tuple[Tensor, ...]:
    """Rows (M,) cut into batches of two or more, see `slnlab.processes.batching`; a single row makes none."""
    sizes = batch_sizes(len(rows), batch_size)
    return rows[: sum(sizes)].split(sizes)


class Labels(NamedTuple):
    """The labels of all training samples, in data set order, as they are before a method learns from them.

    Args:
        given: what training sees (N,) int64.
        true: the true labels (N,) int64, where they are known.
        wrong: mask (N,) of the samples whose given label does not describe their image, where that is known.
    """

    given: Tensor
    true: Tensor | None = None
    wrong: Tensor | None = None

    def to(self, device: torch.device | str) -> Labels:
        """The same labels on this device."""
        true, wrong = (None if column is None else column.to(device) for column in (self.true, self.wrong))
        return Labels(self.given.to(device), true, wrong)


class Samples(NamedTuple):
    """Rows of the sample table (B,) int64, and their images (B, channels, H, W) float32."""

    index: Tensor  # type: ignore[assignment]  # the field's name for it, at the price of tuple.index
    image: Tensor


class Batch(NamedTuple):
    """What a method sees: this process's part of a global batch, as `Samples`, and which part that is."""

    index: Tensor  # type: ignore[assignment]
    image: Tensor
    shard: Shard
    pixels: Callable[[], Tensor] | None = None
    """The images before augmentation, see `Images.pixels`."""
    own: Any = None
    """What a method has attached for one pass, see `SingleNetwork.attached`."""

    def mean(self, losses: Tensor) -> Tensor:
        """This process's share of the mean over the global batch of its samples' losses (B,).

        The shares of all processes add up to the mean; of a process that is alone it is the mean itself.
        """
        return losses.sum() / self.shard.total


@dataclass
class Images:
    """The training images of a batch, read once; views of them are made as often as they are asked for.

    Args:
        index: rows of the sample table (B,).
        shard: which rows of the global batch they are. Draws are made for all of it and cut, so that a sample is
            augmented in the same way whatever the number of processes.
        stored, rows: images (M, channels, H + 2p, W + 2p) uint8, p the padding, and which of them (B,) int64.
        crop_flip, normalise: the training augmentation.
        size: (H, W).
    """

    index: Tensor
    shard: Shard
    stored: Tensor
    rows: Tensor
    crop_flip: CropFlip
    normalise: Normalise
    size: tuple[int, int]

    def view(self, generator: torch.Generator | None = None) -> Tensor:
        """Network input (B, channels, H, W) float32: augmented by `generator`, or as they are without one."""
        if generator is None or not len(self.index):
            return self.normalise(self.pixels())
        draws = self.crop_flip.draw(self.shard.total, generator, self.index.device)
        if len(self.shard) < self.shard.total:
            draws = Draws(*map(self.shard.of, draws))
        return self.normalise(self.crop_flip.apply(self.stored, self.rows, draws, self.size))

    def batch(self, generator: torch.Generator) -> Batch:
        """To learn from: augmented by `generator`."""
        return Batch(self.index, self.view(generator), self.shard, self.pixels)

    def pixels(self) -> Tensor:
        """As they are: uint8 (B, channels, H, W)."""
        return view(self.stored, self.rows, self.crop_flip.padding, self.size)


class EvaluationBatch(NamedTuple):
    """Images (B, channels, H, W) float32 and the labels (B,) int64 that predictions are compared with."""

    image: Tensor
    label: Tensor


class EvaluationBatches:
    """Batches of a split in data set order, each made when it is reached."""

    def __init__(self, rows: Sequence[Tensor], make: Callable[[int, Tensor], EvaluationBatch]) -> None:
        self.rows, self.make = rows, make

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[EvaluationBatch]:
        return map(self.make, range(len(self.rows)), self.rows)
