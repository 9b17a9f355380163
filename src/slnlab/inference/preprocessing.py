"""From image files, Pillow images or arrays to what evaluation sees."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import functional as tv

from slnlab.data.decoding import middle
from slnlab.errors import ConfigError, DataError
from slnlab.image_folder.decoding import pillow_rgb, read_rgb
from slnlab.record.result import Preprocessing

MODES = {1: "L", 3: "RGB"}
"""Pillow's name for an image of so many channels."""

AHEAD = 2
"""Batches that are being decoded while one is classified."""


class Probabilities(nn.Module):
    """A network with its preprocessing before it and a softmax behind it: what `predict` calls and `export` writes.

    Its arithmetic is that of `slnlab.data.augment.Normalise`, bit for bit, with buffers that move with the module.

    Args:
        network: normalised images (N, channels, *crop) float32 → logits (N, C).
        preprocessing: of the run.

    Shape:
        uint8 (N, channels, *resize) → float32 (N, C), rows summing to one.
    """

    full: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        (height, width), (self.height, self.width) = preprocessing.resize, preprocessing.crop
        self.top, self.left = (height - self.height) // 2, (width - self.width) // 2
        # A tensor, because CUDA divides by a number as a multiplication by its rounded reciprocal.
        self.register_buffer("full", torch.tensor(255.0))
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(preprocessing.std).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        middle = images[:, :, self.top : self.top + self.height, self.left : self.left + self.width]
        normalised = middle.to(torch.float32).div(self.full).sub(self.mean).div(self.std)
        logits: Tensor = self.network(normalised)
        return logits.float().softmax(1)


def pixels(image: Image.Image | str | os.PathLike[str], preprocessing: Preprocessing) -> Tensor:
    """An image in the network's channels at the size `resize`: uint8 (channels, height, width).

    Colour becomes grey by its luma (ITU-R 601) where the network sees one channel; grey becomes three equal channels
    where it sees three. Smaller images are scaled up. What lies outside the middle is not seen.

    Raises:
        DataError: a file or a Pillow image that cannot be read.
        ConfigError: neither a path nor a Pillow image, or the network sees neither 1 nor 3 channels.
    """
    if not isinstance(image, str | os.PathLike | Image.Image):
        raise ConfigError(f"images: must be paths, Pillow images, or one array of all, not {type(image).__name__}")
    channels = len(preprocessing.mean)
    if channels not in MODES:
        raise ConfigError(
            f"images: the network sees {channels} channels, and an image file has 1 or 3; give arrays of "
            f"{preprocessing.resize[0]}×{preprocessing.resize[1]} pixels"
        )
    how = preprocessing.pixel_range, preprocessing.background
    whole = pillow_rgb(image, *how) if isinstance(image, Image.Image) else read_rgb(image, *how)
    fitted = middle(whole.convert(MODES[channels]), *preprocessing.resize)
    return torch.from_numpy(np.array(fitted)).view(*preprocessing.resize, channels).permute(2, 0, 1)


def stacked(images: Tensor | np.ndarray, preprocessing: Preprocessing) -> Tensor:
    """An array of images as a batch: uint8 (N, channels, *resize).

    Args:
        images: uint8, (N, channels, H, W) or (N, H, W, channels), or of one channel (N, H, W). Where the shape allows
            both, the channels come first. An image of another size is resized as one from a file is.

    Raises:
        ConfigError: another type or shape.
    """
    batch = torch.from_numpy(images) if isinstance(images, np.ndarray) else images
    channels, shape = len(preprocessing.mean), tuple(batch.shape)
    if batch.dtype != torch.uint8:
        raise ConfigError(f"images: must be uint8, from 0 to 255, not {batch.dtype}")
    if batch.ndim == 3 and channels == 1:
        batch = batch.unsqueeze(1)
    elif batch.ndim == 4 and batch.shape[1] != channels and batch.shape[3] == channels:
        batch = batch.permute(0, 3, 1, 2)
    if batch.ndim != 4 or batch.shape[1] != channels or 0 in batch.shape[2:]:
        raise ConfigError(
            f"images: must be (N, {channels}, height, width) or (N, height, width, {channels}), not {shape}"
        )
    if tuple(batch.shape[2:]) == preprocessing.resize or not len(batch):
        return batch.contiguous()
    return torch.stack([pixels(tv.to_pil_image(image), preprocessing) for image in batch.cpu()])


def decoded(
    items: Iterable[Any], preprocessing: Preprocessing, batch_size: int, workers: int
) -> Iterator[list[tuple[Any, Tensor | DataError]]]:
    """Batches of images, read ahead: pairs of what was given and its pixels, or why there are none.

    Threads decode, as Pillow lets go of the interpreter meanwhile. A `DataError` among the items passes through.

    Args:
        items: paths or Pillow images, read as far as they are needed.
        preprocessing: of the run.
        batch_size: images to a batch, ≥ 1.
        workers: threads, ≥ 1.
    """

    def attempt(item: Any) -> Tensor | DataError:
        if isinstance(item, DataError):
            return item
        try:
            return pixels(item, preprocessing)
        except DataError as error:
            return error

    iterator = iter(items)
    pool = ThreadPoolExecutor(workers)
    waiting: deque[tuple[list[Any], list[Future[Tensor | DataError]]]] = deque()
    try:
        while True:
            while len(waiting) <= AHEAD and (batch := list(islice(iterator, batch_size))):
                waiting.append((batch, [pool.submit(attempt, item) for item in batch]))
            if not waiting:
                return
            batch, futures = waiting.popleft()
            yield [(item, future.result()) for item, future in zip(batch, futures, strict=True)]
    finally:
        pool.shutdown(cancel_futures=True)  # whoever asked may have stopped asking
