"""Strong augmentation of a batch: AutoAugment, crop, flip and cutout, with separate draws for each sample."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms import AutoAugmentPolicy, v2

from slnlab.data.augment import CropFlip, Draws, Normalise, pad
from slnlab.processes.distributed import Shard
from slnlab.streams import Streams, derive


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


class AutoAugmented:
    """torchvision's AutoAugment policy for CIFAR-10 (Cubuk et al. 2019); then random crop, flip and cutout.

    The draws of a sample depend only on the step and on its place in the global batch. The policy treats one image
    after another and draws on the host, without waiting for the device.

    Args:
        crop_flip: the training augmentation.
        normalise: normalisation of pixels to network input.
        cutout: side of the cutout square, even, ≥ 0.
    """

    def __init__(self, crop_flip: CropFlip, normalise: Normalise, cutout: int) -> None:
        self.crop_flip, self.normalise, self.cutout = crop_flip, normalise, cutout
        self.policy = v2.AutoAugment(AutoAugmentPolicy.CIFAR10)

    def __call__(self, images: Tensor, part: Shard, streams: Streams, step: int) -> Tensor:
        """Return network input (B, C, H, W) float32 for the part of a global batch.

        Args:
            images: uint8 (B, C, H, W), the images of this part.
            part: rows of the global batch.
            streams: the random streams of the run.
            step: optimiser step; names the draws.
        """
        if not len(images):  # a small batch may leave no row to a process
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
        host = torch.default_generator  # torchvision draws from it alone
        state = host.get_state()
        try:
            augmented = []
            for place, image in enumerate(images, start=part.start):
                host.manual_seed(derive(seed, "AutoAugment", step, place))
                augmented.append(self.policy(image))
        finally:
            host.set_state(state)
        return torch.stack(augmented)
