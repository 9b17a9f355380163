"""Image files → batches of pixels, decoded ahead by worker processes."""

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

    A list of a million strings would take four times the memory. Every worker process would also copy it, because
    reading a Python object writes its reference count.

    Args:
        root: directory above the relative paths.
        paths: relative paths of the images, in data set order.
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
        """Return the relative path of a row."""
        return os.fsdecode(self._text[self._ends[row] : self._ends[row + 1]].tobytes())


LONGEST = 4
"""Largest ratio of an image's longer to its shorter side. A longer image is cut to its middle before scaling."""


def decode(
    path: str | os.PathLike[str],
    size: int,
    pixel_range: Sequence[float] | None = None,
    background: Background = "white",
) -> Tensor:
    """Read the middle square of an image file, uint8 (3, size, size).

    Args:
        path: the image file.
        size: side of the square, in pixels.
        pixel_range, background: see `slnlab.image_folder.decoding.read_rgb`.

    Raises:
        DataError: see `slnlab.image_folder.decoding.read_rgb`.
    """
    square = middle(read_rgb(path, pixel_range, background), size, size)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1)


def middle(image: Image.Image, height: int, width: int) -> Image.Image:
    """Scale an image (bilinear with antialias) to cover height × width, and cut out the middle.

    An image longer than `LONGEST` squares is cut first, because scaling the rest would waste memory and time. Its
    samples shift by at most one pixel of the file.
    """
    longest = LONGEST * min(image.size)
    if max(image.size) > longest:
        image = tv.center_crop(image, [min(image.height, longest), min(image.width, longest)])
    if image.width * height >= width * image.height:  # wider than the target
        size = [height, int(height * image.width / image.height)]
    else:
        size = [int(width * image.height / image.width), width]
    return tv.center_crop(tv.resize(image, size), [height, width])


class Decoder:
    """Row → its image (3, size, size) uint8, see `decode`.

    Args:
        paths: paths of the images.
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
        """Return the path of the image."""
        return str(self.paths[row])

    def batch(self, rows: npt.NDArray[np.int64]) -> Tensor:
        """Rows (B,) → images (B, 3, size, size) uint8."""
        images = torch.empty(len(rows), 3, self.size, self.size, dtype=torch.uint8)
        for image, row in zip(images, rows.tolist(), strict=True):
            image.copy_(self(row))
        return images


class Reader:
    """Decoded batches by number. Worker processes read ahead while the numbers come in order.

    Reading ahead begins at the first requested batch, and again at batch 0. This process decodes a batch out of order;
    the pixels are the same.

    Args:
        decoder: rows → images.
        batches: rows (B,) of each batch, on the CPU.
        workers: number of worker processes; 0: decode in this process.
        device: device of the images.
        timeout: longest time for one image, in seconds; None: no limit.
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
            decoded = next(self._ahead)
            self._next += 1
            if self._next == len(self.batches):
                self._ahead = None
        else:
            decoded = self.decoder.batch(self.batches[number])
        images = decoded.to(self.device, non_blocking=True)
        return images, torch.arange(len(images), device=self.device)
