"""Crop, flip and normalise whole batches on the device.

The padded images lie on the training device as raw bytes, and an index cuts a batch out of them. Every sample has its
own crop and flip; ``torchvision.transforms.v2`` draws once for the whole batch. Pixel for pixel the result equals
torchvision's on each single image.

    padded = pad(images, 4)
    crop_flip = CropFlip(padding=4, flip=True)
    normalise = Normalise(mean, std)
    draws = crop_flip.draw(len(index), generator, padded.device)
    training_batch = normalise(crop_flip.apply(padded, index, draws, size=(32, 32)))
    test_batch = normalise(view(padded, index, padding=4, size=(32, 32)))
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from slnlab.data.rotation import draw_degrees, rotate
from slnlab.errors import ConfigError
from slnlab.processes.distributed import Shard


def pad(images: Tensor, padding: int) -> Tensor:
    """Return images with ``padding`` zero pixels on every side.

    The zeros are raw pixels, black before normalisation, as in the authors' code. Zeros after normalisation would be
    the mean colour.

    Args:
        images: uint8 (N, C, H, W).
        padding: pixels p ≥ 0 on each side.

    Returns:
        uint8 (N, C, H + 2p, W + 2p) on the same device; ``images`` itself if p = 0.

    Raises:
        ConfigError: ``padding`` is negative.
        ValueError: ``images`` is not uint8 (N, C, H, W).
    """
    _check_padding(padding)
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise ValueError(f"pad: images must be uint8 (N, C, H, W), not {images.dtype} of shape {tuple(images.shape)}")
    if padding == 0:
        return images
    count, channels, height, width = images.shape
    padded = images.new_zeros(count, channels, height + 2 * padding, width + 2 * padding)
    padded[:, :, padding : padding + height, padding : padding + width] = images
    return padded


class Draws(NamedTuple):
    """Random draws for every sample of a batch.

    Attributes:
        top: int64 (B,), first row of the crop in the padded image, in [0, 2·padding].
        left: int64 (B,), first column of the crop in the padded image, in [0, 2·padding].
        flip: bool (B,), True mirrors the crop left to right.
    """

    top: Tensor
    left: Tensor
    flip: Tensor


@dataclass(frozen=True)
class CropFlip:
    """Random crop of the original size out of the padded image, then a horizontal flip with probability ½.

    Each sample has independent draws, uniform over the (2·padding + 1)² crops. The SLN paper (appendix B.1) uses
    padding 4 and flips.

    Args:
        padding: padding p ≥ 0 of the images, in pixels; 0 never crops.
        flip: flip samples at random; False: never.
        rotation: largest angle of a random rotation that follows, in degrees; 0: none. See `rotated`.

    Raises:
        ConfigError: ``padding`` is negative.
    """

    padding: int
    flip: bool
    rotation: float = 0.0

    def __post_init__(self) -> None:
        _check_padding(self.padding)

    def draw(self, batch: int, generator: torch.Generator | None, device: torch.device | str) -> Draws:
        """Draw crops and flips for ``batch`` samples.

        Without padding the generator does not advance for crops, and without ``flip`` not for flips.

        Args:
            batch: number of samples B.
            generator: a generator on ``device``; None: PyTorch's global one.
            device: device of the draws.
        """
        if self.padding > 0:
            offsets = torch.randint(2 * self.padding + 1, (2, batch), generator=generator, device=device)
        else:
            offsets = torch.zeros(2, batch, dtype=torch.int64, device=device)
        if self.flip:
            flip = torch.randint(2, (batch,), generator=generator, device=device).bool()
        else:
            flip = torch.zeros(batch, dtype=torch.bool, device=device)
        return Draws(top=offsets[0], left=offsets[1], flip=flip)

    def apply(self, padded: Tensor, index: Tensor, draws: Draws, size: tuple[int, int]) -> Tensor:
        """Return the samples ``index`` of ``padded``, cropped and flipped as drawn.

        Args:
            padded: uint8 (N, C, H + 2p, W + 2p), see :func:`pad`.
            index: samples, int64 (B,), on the device of ``padded``.
            draws: draws of this object for B samples, on the device of ``padded``.
            size: (H, W) of an image before padding.

        Returns:
            uint8 (B, C, H, W), contiguous.

        Raises:
            ValueError: the sizes of ``padded``, ``size``, ``index`` and ``draws`` do not fit together.
        """
        _check_size(padded, self.padding, size)
        if not len(index) == len(draws.top) == len(draws.left) == len(draws.flip):
            raise ValueError(f"CropFlip: {len(index)} samples, but draws for {len(draws.top)}")
        height, width = size
        batch, channels = len(index), padded.shape[1]
        # A row of a crop is a run of bytes, so copying whole rows is faster than copying pixels. Window i of the
        # flattened images begins at their byte i.
        windows = padded.contiguous().flatten().unfold(0, width, 1)
        plane = padded.shape[2] * padded.shape[3]
        corner = index * (channels * plane) + draws.top * padded.shape[3] + draws.left
        channel = torch.arange(channels, device=padded.device) * plane
        row = torch.arange(height, device=padded.device) * padded.shape[3]
        starts = corner[:, None, None] + channel[:, None] + row
        crops = windows.index_select(0, starts.flatten()).view(batch, channels, height, width)
        if not self.flip:
            return crops
        # Every sample is made both ways and one is picked: picking whole images is faster than picking pixels, and
        # looking up the flipped samples would wait for the device.
        both = torch.cat([crops, crops.flip(3)])
        return both.index_select(0, draws.flip * batch + torch.arange(batch, device=padded.device))

    def rotated(self, images: Tensor, part: Shard, generator: torch.Generator | None) -> Tensor:
        """Rotate each image by an angle of its own, uniform in [−rotation, rotation].

        Without rotation the generator does not advance.

        Args:
            images: uint8 (B, C, H, W).
            part: their rows of the global batch, for which the angles are drawn.
            generator: as for `draw`.
        """
        if not self.rotation:
            return images
        return rotate(images, part.of(draw_degrees(part.total, self.rotation, generator, images.device)))


def view(padded: Tensor, index: Tensor, padding: int, size: tuple[int, int]) -> Tensor:
    """Return the samples ``index`` of ``padded`` without their padding, for evaluation.

    Args:
        padded: uint8 (N, C, H + 2p, W + 2p), see :func:`pad`.
        index: samples, int64 (B,), on the device of ``padded``.
        padding: padding p of the images, in pixels.
        size: (H, W) of an image before padding.

    Returns:
        uint8 (B, C, H, W), contiguous, a copy.

    Raises:
        ConfigError: ``padding`` is negative.
        ValueError: ``padded`` is not ``size`` plus twice the padding.
    """
    _check_padding(padding)
    _check_size(padded, padding, size)
    height, width = size
    return padded[:, :, padding : padding + height, padding : padding + width].index_select(0, index)


class Normalise:
    """Raw pixels → network input, (pixel/255 − mean)/std per channel.

    On every device the result equals bit for bit torchvision's ``ToTensor`` (or ``convert_image_dtype``) and
    ``Normalize``, the field's usual transforms. ``v2.ToDtype(scale=True)`` multiplies by a rounded 1/255, and differs
    in the last place for about half of all pixel values.

    It is no module, so that ``.half()`` on a network does not round its constants.

    Args:
        mean: mean of each channel, in units of the full pixel range (0 to 1).
        std: standard deviation of each channel in the same units, > 0.

    Raises:
        ConfigError: ``mean`` and ``std`` differ in length or are empty, an entry is not finite, or a std is not > 0.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean = tuple(float(value) for value in mean)
        self.std = tuple(float(value) for value in std)
        if len(self.mean) != len(self.std) or not self.mean:
            raise ConfigError(f"Normalise: mean = {self.mean} and std = {self.std} must have an entry per channel")
        if not all(map(math.isfinite, self.mean + self.std)) or min(self.std) <= 0:
            raise ConfigError(f"Normalise: mean = {self.mean} must be finite and std = {self.std} finite and > 0")
        self._constants: dict[torch.device, tuple[Tensor, Tensor, Tensor]] = {}

    def __call__(self, images: Tensor) -> Tensor:
        """Return normalised images.

        Args:
            images: uint8 (B, C, H, W), with one channel for each entry of ``mean``.

        Returns:
            float32 (B, C, H, W).

        Raises:
            ValueError: ``images`` is not uint8 (B, C, H, W).
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != len(self.mean):
            raise ValueError(
                f"Normalise: images must be uint8 (B, {len(self.mean)}, H, W), not {images.dtype} of shape "
                f"{tuple(images.shape)}"
            )
        full, mean, std = self._on(images.device)
        return images.to(torch.float32).div_(full).sub_(mean).div_(std)

    def __repr__(self) -> str:
        return f"Normalise(mean={self.mean}, std={self.std})"

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Return 255, mean and std as float32 tensors on ``device``, copied to it once."""
        if device not in self._constants:
            # 255 must be a tensor on the device: CUDA replaces division by a host scalar with multiplication by its
            # rounded reciprocal.
            full = torch.tensor(255.0, dtype=torch.float32, device=device)
            mean, std = (
                torch.tensor(values, dtype=torch.float32, device=device).view(-1, 1, 1)
                for values in (self.mean, self.std)
            )
            self._constants[device] = (full, mean, std)
        return self._constants[device]


def _check_padding(padding: int) -> None:
    if padding < 0:
        raise ConfigError(f"padding = {padding}, but it must be ≥ 0")


def _check_size(padded: Tensor, padding: int, size: tuple[int, int]) -> None:
    height, width = size
    if padded.ndim != 4 or tuple(padded.shape[2:]) != (height + 2 * padding, width + 2 * padding):
        # A crop beyond its row would silently read the next row.
        raise ValueError(
            f"images of shape {tuple(padded.shape)} are not {height}×{width} padded by {padding} on each side"
        )
