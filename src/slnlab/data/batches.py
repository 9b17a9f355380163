"""What travels from the data to a method: to learn from, and to be evaluated on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from torch import Tensor

from slnlab.distributed import Shard


class Samples(NamedTuple):
    """Rows of the sample table (B,) int64, and their images (B, channels, H, W) float32."""

    index: Tensor  # type: ignore[assignment]  # the field's name for it, at the price of tuple.index
    image: Tensor


class Batch(NamedTuple):
    """What a method sees: this process's part of a global batch, as `Samples`, and which part that is."""

    index: Tensor  # type: ignore[assignment]
    image: Tensor
    shard: Shard

    def mean(self, losses: Tensor) -> Tensor:
        """This process's share of the mean over the global batch of its samples' losses (B,).

        The shares of all processes add up to the mean; of a process that is alone it is the mean itself.
        """
        return losses.sum() / self.shard.total


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
