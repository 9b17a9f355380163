"""What a data set is to us: labelled images, all of one size, as one tensor."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

from torch import Tensor

Split = Literal["train", "test"]


class LabelledImages(NamedTuple):
    """`images` (N, channels, height, width) uint8 and `labels` (N,) int64, in data set order."""

    images: Tensor
    labels: Tensor


class Source(Protocol):
    """A data set. To add one: a class with these members, and a file in `conf/data/`."""

    name: str

    def prepare(self) -> None:
        """Download or unpack whatever is missing. Called once, in one process.

        Raises:
            slnlab.errors.DataError: the data are not there and cannot be had.
        """

    def load(self, split: Split) -> LabelledImages:
        """Read one split.

        Raises:
            slnlab.errors.DataError: missing or corrupt files.
        """
