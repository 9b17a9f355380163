"""Strong views of a batch, with separate draws for each sample: of images a policy, crop, flip and cutout; of vectors
dropped features."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torchvision.transforms import AutoAugmentPolicy, v2

from slnlab.data.augment import CropFlip, Draws, Normalise
from slnlab.data.transforms import each
from slnlab.processes.distributed import Shard
from slnlab.streams import Streams, derive


class SecondView(Protocol):
    """A strong view of a part of a global batch, see `StrongView.__call__`."""

    def __call__(self, images: Tensor, part: Shard, streams: Streams, step: int, number: int = 1) -> Tensor: ...


def cut_out(images: Tensor, centre: Tensor, side: int) -> Tensor:
    """Set a square of each image to zero (DeVries & Taylor 2017). The square may reach beyond the image.

    Args:
        images: (B, C, H, W), normalised, so that zero is the mean colour.
        centre: (B,) in [0, H·W), pixel numbers y·W + x. The square has rows [y − side/2, y + side/2) and columns
            [x − side/2, x + side/2).
        side: side of the square, even; 0: no square.

    Returns:
        (B, C, H, W), a copy.
    """
    height, width = images.shape[2:]
    y, x = (centre // width).view(-1, 1, 1), (centre % width).view(-1, 1, 1)
    row = torch.arange(height, device=images.device).view(1, -1, 1) - y
    column = torch.arange(width, device=images.device).view(1, 1, -1) - x
    half = side // 2
    inside = (row >= -half) & (row < half) & (column >= -half) & (column < half)
    return images.masked_fill(inside.unsqueeze(1), 0.0)


def autoaugment() -> v2.Transform:
    """torchvision's AutoAugment policy for CIFAR-10 (Cubuk et al. 2019)."""
    return v2.AutoAugment(AutoAugmentPolicy.CIFAR10)


def randaugment(operations: int, magnitude: int) -> v2.Transform:
    """torchvision's RandAugment (Cubuk et al. 2020), each operation with probability ½ and a strength of its own.

    Args:
        operations: number of operations, ≥ 1.
        magnitude: m in [2, 10]. Each strength is drawn from 1 … m − 1, of 10, as in FixMatch's and DISC's code.
    """
    strengths = [v2.RandAugment(1, magnitude=3 * strength, num_magnitude_bins=31) for strength in range(1, magnitude)]
    return v2.Compose([v2.RandomApply([v2.RandomChoice(strengths)], p=0.5) for _ in range(operations)])


class StrongView:
    """An augmentation policy; then random crop, flip and cutout, as SOP+ does. The code of SSR and DISC crops first.

    The draws of a sample depend only on the step, the number of the view and its place in the global batch. The policy
    treats one image after another and draws on the host, which makes many small calls. Some of torchvision's (shear,
    rotation, …) wait for a GPU.

    Args:
        policy: maps uint8 images (C, H, W) to such images, drawing from PyTorch's default generator alone.
        crop_flip: the training augmentation.
        normalise: normalisation of pixels to network input.
        cutout: side of the cutout square, even, ≥ 0.
    """

    def __init__(self, policy: v2.Transform, crop_flip: CropFlip, normalise: Normalise, cutout: int = 0) -> None:
        self.policy, self.crop_flip, self.normalise, self.cutout = policy, crop_flip, normalise, cutout

    def __call__(self, images: Tensor, part: Shard, streams: Streams, step: int, number: int = 1) -> Tensor:
        """Return network input (B, C, H, W) float32 for the part of a global batch.

        Args:
            images: uint8 (B, C, H, W), the images of this part.
            part: rows of the global batch.
            streams: the random streams of the run.
            step: optimiser step; names the draws.
            number: number of the view, from 1, if a step needs several.
        """
        if not len(images):  # a small batch may leave no row to a process
            return self.normalise(images)
        height, width = images.shape[2:]
        suffix = f" {number}" if number > 1 else ""
        augmented = self._by_policy(images, part, streams.seed, f"AutoAugment{suffix}", step)
        draws = self.crop_flip.draw(part.total, streams(f"strong crop{suffix}", step), images.device)
        draws = Draws(*map(part.of, draws))
        rows = torch.arange(len(images), device=images.device)
        crops = self.crop_flip.apply(augmented, rows, draws, (height, width))
        if not self.cutout:
            return self.normalise(crops)
        generator = streams(f"cutout{suffix}", step)
        centre = torch.randint(height * width, (part.total,), generator=generator, device=images.device)
        return cut_out(self.normalise(crops), part.of(centre), self.cutout)

    def _by_policy(self, images: Tensor, part: Shard, seed: int, purpose: str, step: int) -> Tensor:
        places = range(part.start, part.start + len(images))
        return each(self.policy, images, (derive(seed, purpose, step, place) for place in places), images.device)


class DroppedFeatures:
    """A view of feature vectors: after standardising, each number is 0, its mean, with some probability (ours).

    Args:
        share: the probability, in [0, 1).
        normalise: the standardisation.
    """

    def __init__(self, share: float, normalise: Normalise) -> None:
        self.share, self.normalise = share, normalise

    def __call__(self, images: Tensor, part: Shard, streams: Streams, step: int, number: int = 1) -> Tensor:
        """Return network input (B, D) float32; see `StrongView.__call__`, with vectors (B, D) in place of images."""
        generator = streams(f"dropped features {number}", step)
        drawn = torch.rand(part.total, images.shape[1], generator=generator, device=images.device)
        return self.normalise(images).masked_fill(part.of(drawn) < self.share, 0.0)
