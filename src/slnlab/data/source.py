"""The interface of a data set in memory: labelled images of one size, as one tensor."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

from torch import Tensor

Split = Literal["train", "test"]


class LabelledImages(NamedTuple):
    """`images` (N, channels, height, width) uint8 and `labels` (N,) int64, in data set order."""

    images: Tensor
    labels: Tensor


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
