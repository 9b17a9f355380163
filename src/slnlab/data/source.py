"""The interface of a data set in memory: labelled images of one size, as one tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

Split = Literal["train", "test"]


class LabelledImages(NamedTuple):
    """`images` (N, channels, height, width) uint8 and `labels` (N,) int64, in data set order."""

    images: Tensor
    labels: Tensor

    def only(self, classes: Sequence[int]) -> LabelledImages:
        """The samples of these classes, numbered 0, 1, … in this order."""
        numbers = torch.full((1 + max(int(self.labels.max()), *classes),), -1)
        numbers[list(classes)] = torch.arange(len(classes))
        kept = numbers[self.labels] >= 0
        return LabelledImages(self.images[kept], numbers[self.labels[kept]])


class Source(Protocol):
    """A data set in memory. A new one is a class with these members, and a file in `conf/data/`."""

    name: str

    def prepare(self) -> None:
        """Download or unpack missing files. It is called once, in one process.

        Raises:
            slnlab.errors.DataError: the files are missing and cannot be fetched.
        """

    def load(self, split: Split) -> LabelledImages:
        """Read one split.

        Raises:
            slnlab.errors.DataError: files are missing or corrupt.
        """
