"""A strongly augmented view of a batch: AutoAugment, crop, flip, cutout, drawn for each sample by itself."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms import AutoAugmentPolicy, v2

from slnlab.data.augment import CropFlip, Draws, Normalise, pad
from slnlab.processes.distributed import Shard
from slnlab.streams import Streams, derive


def cut_out(images: Tensor, centre: Tensor, side: int) -> Tensor:
    """Zero in a square, what reaches beyond the image left off (DeVries & Taylor 2017).

    Args:
        images: (B, C, H, W), normalised, so that zero is the mean colour.
        centre: (B,) in [0, H·W), the pixel in whose rows [y − side/2, y + side/2) and columns likewise it lies.
        side: even; 0: images as they are.
    """
    height, width = images.shape[2:]
    y, x = (centre // width).view(-1, 1, 1), (centre % width).view(-1, 1, 1)
    row = torch.arange(height, device=images.device).view(1, -1, 1) - y
    column = torch.arange(width, device=images.device).view(1, 1, -1) - x
    half = side // 2
    inside = (row >= -half) & (row < half) & (column >= -half) & (column < half)
    return images.masked_fill(inside.unsqueeze(1), 0.0)


class AutoAugmented:
    """AutoAugment's policy for CIFAR-10 (Cubuk et al. 2019), by torchvision; then random crop, flip and cutout.

    Every sample has its own draws, which depend on the step and its place in the global batch alone. The policy works
    image by image and decides on the host, without waiting for the device.

    Args:
        crop_flip: the training augmentation.
        normalise: pixels to network input.
        cutout: side of the square, even, ≥ 0.
    """

    def __init__(self, crop_flip: CropFlip, normalise: Normalise, cutout: int) -> None:
        self.crop_flip, self.normalise, self.cutout = crop_flip, normalise, cutout
        self.policy = v2.AutoAugment(AutoAugmentPolicy.CIFAR10)

    def __call__(self, images: Tensor, part: Shard, streams: Streams, step: int) -> Tensor:
        """uint8 (B, C, H, W), which are these rows of a batch, as network input of the same shape."""
        if not len(images):  # a process may have no row of a small batch
            return self.normalise(images)
        height, width = images.shape[2:]
        augmented = self._by_policy(images, part, streams.seed, step)
        draws = self.crop_flip.draw(part.total, streams("strong crop", step), images.device)
        draws = Draws(*map(part.of, draws))
        rows = torch.arange(len(images), device=images.device)
        crops = self.crop_flip.apply(pad(augmented, self.crop_flip.padding), rows, draws, (height, width))
        generator = streams("cutout", step)
        centre = torch.randint(height * width, (part.total,), generator=generator, device=images.device)
        return cut_out(self.normalise(crops), part.of(centre), self.cutout)

    def _by_policy(self, images: Tensor, part: Shard, seed: int, step: int) -> Tensor:
        host = torch.default_generator  # which is all that torchvision draws from
        state = host.get_state()
        try:
            augmented = []
            for place, image in enumerate(images, start=part.start):
                host.manual_seed(derive(seed, "AutoAugment", step, place))
                augmented.append(self.policy(image))
        finally:
            host.set_state(state)
        return torch.stack(augmented)
