"""Image files to batches of pixels: decoded in worker processes that read ahead."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional as tv

from slnlab.data.ahead import Ahead
from slnlab.data.datamodule import Stored
from slnlab.image_folder.decoding import Background, read_rgb


class Paths:
    """The paths of a data set's images, in one piece of memory.

    A list of a million strings would take four times as much, and would be copied into every worker process: reading a
    Python object writes its reference count.

    Args:
        root: directory that the paths are relative to.
        paths: of the images, in data set order.
    """

    def __init__(self, root: str | os.PathLike[str], paths: Iterable[str]) -> None:
        encoded = [os.fsencode(path) for path in paths]
        self.root = Path(root)
        self._ends = np.cumsum([0, *map(len, encoded)])
        self._text = np.frombuffer(b"".join(encoded), np.uint8)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, row: int) -> Path:
        return self.root / self.relative(row)

    def relative(self, row: int) -> str:
        """The path as it was given."""
        return os.fsdecode(self._text[self._ends[row] : self._ends[row + 1]].tobytes())


LONGEST = 4
"""Of an image that is longer than so many times its width, or the other way round, only the middle is enlarged."""


def decode(
    path: str | os.PathLike[str],
    size: int,
    pixel_range: Sequence[float] | None = None,
    background: Background = "white",
) -> Tensor:
    """The middle square of an image: uint8 (3, size, size). What the file says is read by `read_rgb`.

    Args:
        path: of the file.
        size: pixels s of either side.
        pixel_range, background: see `slnlab.image_folder.decoding.read_rgb`.

    Raises:
        DataError: see `slnlab.image_folder.decoding.read_rgb`.
    """
    square = middle(read_rgb(path, pixel_range, background), size, size)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1)


def middle(image: Image.Image, height: int, width: int) -> Image.Image:
    """The image scaled (bilinear with antialias) until it covers this size, and the middle of that.

    Of images that are longer than `LONGEST` squares the rest is cut off before: enlarging it would cost memory and time
    for nothing. The pixels are then sampled at most one pixel of the file beside where they would be.
    """
    longest = LONGEST * min(image.size)
    if max(image.size) > longest:
        image = tv.center_crop(image, [min(image.height, longest), min(image.width, longest)])
    if image.width * height >= width * image.height:  # wider than what is wanted
        size = [height, int(height * image.width / image.height)]
    else:
        size = [int(width * image.height / image.width), width]
    return tv.center_crop(tv.resize(image, size), [height, width])


class Decoder:
    """Row → its image (3, size, size) uint8, see `decode`.

    Args:
        paths: of the images.
        size, pixel_range, background: see `decode`.
    """

    def __init__(
        self,
        paths: Paths,
        size: int,
        pixel_range: Sequence[float] | None = None,
        background: Background = "white",
    ) -> None:
        self.paths, self.size, self.pixel_range, self.background = paths, size, pixel_range, background

    def __call__(self, row: int) -> Tensor:
        return decode(self.paths[row], self.size, self.pixel_range, self.background)

    def name(self, row: int) -> str:
        """The image's path."""
        return str(self.paths[row])

    def batch(self, rows: npt.NDArray[np.int64]) -> Tensor:
        """Images (B, 3, size, size) of rows (B,)."""
        images = torch.empty(len(rows), 3, self.size, self.size, dtype=torch.uint8)
        for image, row in zip(images, rows.tolist(), strict=True):
            image.copy_(self(row))
        return images


class Reader:
    """Decoded batches by number, read ahead by worker processes as long as they are asked for in order.

    Reading ahead begins at the first batch that is asked for, and anew at batch 0. One out of order is decoded where it
    is asked for: the pixels are the same.

    Args:
        decoder: rows → images.
        batches: rows (B,) of each batch, on the CPU.
        workers: processes; 0: decode in this one.
        device: where the images go.
        timeout: seconds that an image may take a worker; None: for ever.
    """

    def __init__(
        self,
        decoder: Decoder,
        batches: Sequence[Tensor],
        workers: int,
        device: torch.device,
        timeout: float | None = None,
    ) -> None:
        self.decoder, self.device, self.workers, self.timeout = decoder, device, workers, timeout
        self.batches = [batch.numpy() for batch in batches]
        self._next: int | None = None
        self._ahead: Ahead | None = None

    def __call__(self, number: int) -> Stored:
        if self.workers and (number == 0 or self._next is None):
            pinned = self.device.type == "cuda"
            ahead = Ahead(self.decoder, self.batches[number:], self.workers, self.timeout, pinned)
            self._next, self._ahead = number, ahead if ahead.workers else None
        if self._ahead is not None and number == self._next:
            found = next(self._ahead)
            self._next += 1
            if self._next == len(self.batches):
                self._ahead = None
        else:
            found = self.decoder.batch(self.batches[number])
        images = found.to(self.device, non_blocking=True)
        return images, torch.arange(len(images), device=self.device)
