"""Crop, flip and normalise whole batches on the device.

The images lie on the training device as raw bytes, and an index cuts a batch out of them. Every sample has its own crop
and flip; ``torchvision.transforms.v2`` draws once for the whole batch. Pixel for pixel the result equals torchvision's
on each single image.

    crop_flip = CropFlip(padding=4, flip=True)
    normalise = Normalise(mean, std)
    draws = crop_flip.draw(len(index), generator, images.device)
    training_batch = normalise(crop_flip.apply(images, index, draws, size=(32, 32)))
    test_batch = normalise(view(images, index, padding=4, size=(32, 32)))

Images may have margins: more of the picture around the size of the network's input. The crops of other images reach
beyond their border, where they are zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from slnlab.data.rotation import draw_degrees, rotate
from slnlab.errors import ConfigError
from slnlab.processes.distributed import Shard


class Draws(NamedTuple):
    """Random draws for every sample of a batch.

    Attributes:
        top: int64 (B,), first row of the crop, in [0, 2·padding], counted from ``padding`` rows above the image.
        left: int64 (B,), first column of the crop, likewise.
        flip: bool (B,), True mirrors the crop left to right.
    """

    top: Tensor
    left: Tensor
    flip: Tensor


@dataclass(frozen=True)
class CropFlip:
    """Random crop of the original size, up to ``padding`` pixels off, then a horizontal flip with probability ½.

    Each sample has independent draws, uniform over the (2·padding + 1)² crops. The SLN paper (appendix B.1) uses
    padding 4 and flips. Pixels beyond an image are raw zeros, black before normalisation, as in the authors' code.
    Zeros after normalisation would be the mean colour.

    Args:
        padding: largest shift p ≥ 0 of a crop, in pixels; 0 never crops.
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

    def apply(self, images: Tensor, index: Tensor, draws: Draws, size: tuple[int, int]) -> Tensor:
        """Return the samples ``index`` of ``images``, cropped and flipped as drawn.

        Args:
            images: uint8 (N, C, H, W), or with margins (N, C, H + 2p, W + 2p).
            index: samples, int64 (B,), on the device of ``images``.
            draws: draws of this object for B samples, on the device of ``images``.
            size: (H, W) of a crop.

        Returns:
            uint8 (B, C, H, W), contiguous.

        Raises:
            ValueError: the sizes of ``images``, ``size``, ``index`` and ``draws`` do not fit together.
        """
        _check_size(images, self.padding, size)
        if not len(index) == len(draws.top) == len(draws.left) == len(draws.flip):
            raise ValueError(f"CropFlip: {len(index)} samples, but draws for {len(draws.top)}")
        chosen = images.index_select(0, index)
        if not len(index):
            return chosen[:, :, : size[0], : size[1]]
        pictures, place = [chosen], torch.arange(len(index), device=index.device)
        if self.flip:
            mirrored, place = _mirrored(chosen, draws.flip, look_up=chosen.device.type == "cpu")
            pictures.append(mirrored)
            draws = draws._replace(left=torch.where(draws.flip, 2 * self.padding - draws.left, draws.left))
        # Picking whole images is faster than picking rows or pixels.
        if not self.padding:
            return torch.cat(pictures).index_select(0, place)
        return _cropped(pictures, place, draws, self.padding, size)

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


def view(images: Tensor, index: Tensor, padding: int, size: tuple[int, int]) -> Tensor:
    """Return the samples ``index`` of ``images`` without their margins, for evaluation.

    Args:
        images: uint8 (N, C, H, W), or with margins (N, C, H + 2p, W + 2p).
        index: samples, int64 (B,), on the device of ``images``.
        padding: width p of margins, in pixels.
        size: (H, W) of an image without margins.

    Returns:
        uint8 (B, C, H, W), contiguous, a copy.

    Raises:
        ConfigError: ``padding`` is negative.
        ValueError: ``images`` has neither this size nor that with margins.
    """
    _check_padding(padding)
    _check_size(images, padding, size)
    height, width = size
    top, left = (images.shape[2] - height) // 2, (images.shape[3] - width) // 2
    return images[:, :, top : top + height, left : left + width].index_select(0, index)


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


def _check_size(images: Tensor, padding: int, size: tuple[int, int]) -> None:
    height, width = size
    if images.ndim != 4 or tuple(images.shape[2:]) not in (size, (height + 2 * padding, width + 2 * padding)):
        # A crop beyond its image would silently read the next one.
        raise ValueError(
            f"images of shape {tuple(images.shape)} are neither {height}×{width} nor have margins of {padding} pixels"
        )


def _cropped(pictures: list[Tensor], place: Tensor, draws: Draws, padding: int, size: tuple[int, int]) -> Tensor:
    """Return crops (B, C, H, W).

    Args:
        pictures: uint8 (N, C, H, W) or (N, C, H + 2p, W + 2p), all in turn.
        place: int64 (B,), the picture of each crop.
        draws: of each crop, for its picture.
        padding, size: p and (H, W).
    """
    channels, height, width = pictures[0].shape[1:]
    margins = (height, width) != size
    # In memory a picture shifted by rows and columns is a run of bytes.
    length = channels * height * width
    beyond = pictures[0].new_zeros(padding * width + padding)
    flat = [picture.flatten() for picture in pictures]
    runs = [*flat, beyond, beyond] if margins else [beyond, *flat, beyond]
    start = place * length + draws.top * width + draws.left
    shifted = torch.cat(runs).unfold(0, length, 1).index_select(0, start).view(-1, channels, height, width)
    if margins:
        return shifted[:, :, : size[0], : size[1]].contiguous()
    # Beyond the border a run goes on in the next row, channel or picture.
    rows, columns = _inside(padding, height, width, place.device)
    inside = rows.index_select(0, draws.top) & columns.index_select(0, draws.left)
    return shifted.flatten(2).bitwise_and_(inside.unsqueeze(1)).view(shifted.shape)


@lru_cache(maxsize=16)
def _inside(padding: int, height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return 255 for the pixels of a crop inside its image, by its first row and by its first column: (2p + 1, H·W)."""
    first = torch.arange(-padding, padding + 1, device=device).unsqueeze(1)

    def inside(length: int) -> Tensor:
        place = first + torch.arange(length, device=device)
        return ((place >= 0) & (place < length)).to(torch.uint8) * 255

    return inside(height).repeat_interleave(width, 1), inside(width).repeat(1, height)


def _mirrored(images: Tensor, flip: Tensor, *, look_up: bool) -> tuple[Tensor, Tensor]:
    """Mirror images (B, C, H, W) left to right where the mask ``flip`` (B,) says so.

    ``look_up`` mirrors only these, which takes half the time, but the host waits for the device to know them.

    Returns:
        Mirrored images (M, C, H, W), M ≤ B, and for each image of the batch its place (B,) in both together.
    """
    every = torch.arange(len(images), device=images.device)
    mirrored = (images.index_select(0, flip.nonzero().squeeze(1)) if look_up else images).flip(3)
    number = flip.cumsum(0) - 1 if look_up else every
    return mirrored, torch.where(flip, len(images) + number, every)
