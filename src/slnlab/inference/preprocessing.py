"""Preprocessing of image files, Pillow images and arrays, as in evaluation."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
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
"""Number of channels → Pillow's name of the mode."""

AHEAD = 2
"""Number of batches decoded ahead of the one in classification."""


class Probabilities(nn.Module):
    """A network with its preprocessing and a softmax. `predict` calls this module and `export` writes it.

    Its arithmetic equals `slnlab.data.augment.Normalise` bit for bit. Its buffers move with the module.

    Args:
        network: normalised images (N, channels, *crop) float32 → logits (N, C).
        preprocessing: of the run.

    Shape:
        uint8 (N, channels, *resize), or vectors float32 (N, D), → float32 (N, C); rows sum to 1.
    """

    full: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        self.vectors = preprocessing.resize is None or preprocessing.crop is None
        if preprocessing.resize is not None and preprocessing.crop is not None:
            (height, width), (self.height, self.width) = preprocessing.resize, preprocessing.crop
            self.top, self.left = (height - self.height) // 2, (width - self.width) // 2
        # A tensor, because CUDA replaces division by a number with multiplication by its rounded reciprocal.
        self.register_buffer("full", torch.tensor(255.0))
        shape = (-1,) if self.vectors else (-1, 1, 1)
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(shape))
        self.register_buffer("std", torch.tensor(preprocessing.std).view(shape))

    def forward(self, images: Tensor) -> Tensor:
        """Probabilities (N, C) of images (N, channels, *resize) or vectors (N, D)."""
        if self.vectors:
            return self._softmax(images.sub(self.mean).div(self.std))
        middle = images[:, :, self.top : self.top + self.height, self.left : self.left + self.width]
        return self._softmax(middle.to(torch.float32).div(self.full).sub(self.mean).div(self.std))

    def _softmax(self, normalised: Tensor) -> Tensor:
        logits: Tensor = self.network(normalised)
        return logits.float().softmax(1)


def pixels(image: Image.Image | str | os.PathLike[str], preprocessing: Preprocessing) -> Tensor:
    """The middle of an image in the network's channels: uint8 (channels, *resize).

    A network with one channel sees the luma (ITU-R 601) of colours. A network with three channels sees grey as three
    equal channels. Smaller images are scaled up.

    Args:
        image: path or Pillow image.
        preprocessing: of the run.

    Raises:
        DataError: the file or the Pillow image cannot be read.
        ConfigError: the image is neither a path nor a Pillow image, or the network sees neither 1 nor 3 channels.
    """
    if preprocessing.resize is None:
        raise ConfigError(
            f"images: the run classifies vectors; give one float array (N, {len(preprocessing.mean)}) to "
            "slnlab.load(RUN).predict"
        )
    if not isinstance(image, str | os.PathLike | Image.Image):
        raise ConfigError(f"images: must be paths, Pillow images, or one array of all, not {type(image).__name__}")
    channels = len(preprocessing.mean)
    if channels not in MODES:
        raise ConfigError(
            f"images: the network sees {channels} channels, but an image file has 1 or 3; give arrays of "
            f"{preprocessing.resize[0]}×{preprocessing.resize[1]} pixels"
        )
    reading = preprocessing.pixel_range, preprocessing.background
    whole = pillow_rgb(image, *reading) if isinstance(image, Image.Image) else read_rgb(image, *reading)
    fitted = middle(whole.convert(MODES[channels]), *preprocessing.resize)
    return torch.from_numpy(np.array(fitted)).view(*preprocessing.resize, channels).permute(2, 0, 1)


def stacked(images: Tensor | np.ndarray, preprocessing: Preprocessing, whole: tuple[int, ...] | None = None) -> Tensor:
    """An array of images as a batch: uint8 (N, channels, *resize); of vectors: float32 (N, D).

    Args:
        images: uint8, (N, channels, H, W) or (N, H, W, channels), or (N, H, W) for one channel. Channels come first
            where the shape allows both. Images of another size are resized like those from files. An array (N, H, W)
            whose width is 1, 3 or 4, unlike its height, is refused: it is likelier one image (H, W, channels).
        preprocessing: of the run.
        whole: shape of the array of which `images` is a slice, for messages; None: `images` is the whole.

    Raises:
        ConfigError: the type or the shape is another.
    """
    # PyTorch takes no reversed arrays, and warns of those that cannot be written.
    batch = torch.from_numpy(np.require(images, requirements=["C", "W"])) if isinstance(images, np.ndarray) else images
    channels, shape = len(preprocessing.mean), whole or tuple(batch.shape)
    if preprocessing.resize is None:
        if not batch.is_floating_point() or batch.ndim != 2 or batch.shape[1] != channels:
            raise ConfigError(f"images: the run classifies float vectors (N, {channels}), not {batch.dtype} {shape}")
        return batch.to(torch.float32)
    if batch.dtype != torch.uint8:
        raise ConfigError(f"images: must be uint8, from 0 to 255, not {batch.dtype}")
    if batch.ndim == 3 and channels == 1:
        if shape[2] in (1, 3, 4) and shape[1] != shape[2]:
            raise ConfigError(
                f"images: {shape} looks like one image (height, width, channels); give a Pillow image, or an array "
                "(N, 1, height, width)"
            )
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
    items: Iterable[Any], read: Callable[[Any], Tensor], batch_size: int, workers: int
) -> Iterator[list[tuple[Any, Tensor | DataError]]]:
    """Decode batches of images ahead of their use, in threads, as Pillow releases the interpreter lock.

    Args:
        items: paths or Pillow images, consumed lazily. A `DataError` among them passes through.
        read: item → its pixels; a `DataError` takes their place, and any other error ends the iteration.
        batch_size: images per batch, ≥ 1.
        workers: number of threads, ≥ 1.

    Yields:
        Pairs of each item of a batch and its pixels, or its error.
    """

    def attempt(item: Any) -> Tensor | DataError:
        if isinstance(item, DataError):
            return item
        try:
            return read(item)
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
        pool.shutdown(cancel_futures=True)  # the caller may have stopped early
