"""Augmentation by `torchvision.transforms.v2`, image by image, with named random streams.

torchvision draws once for a whole batch, so each image is transformed alone, on its device. The draws of an image
depend on the random stream of its batch and on its place in the global batch, so a resumed run and any number of
processes see the same images.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from torch import Tensor
from torchvision.transforms import v2

from slnlab.data.batches import Augment, Images, crop_flipped
from slnlab.errors import ConfigError
from slnlab.schema.kinds import Augmentation
from slnlab.streams import derive

Transform = Callable[[Tensor], Tensor]
"""Image uint8 (C, H, W) → uint8 (C, H', W'), drawing from the global generators of PyTorch, NumPy and Python."""


def each(transform: Transform, images: Iterable[Tensor], seeds: Iterable[int], device: torch.device) -> Tensor:
    """Transform each image with a seed of its own; the global generators stay as they were.

    Args:
        transform: see `Transform`.
        images: B ≥ 1 images uint8 (C, H, W).
        seeds: a seed for each.
        device: that of the images.

    Returns:
        uint8 (B, C, H', W').
    """
    found = []
    with _own_randomness(device):
        for image, seed in zip(images, seeds, strict=True):
            torch.default_generator.manual_seed(seed)
            if device.type == "cuda":
                torch.cuda.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
            found.append(transform(image))
    return torch.stack(found)


@contextmanager
def _own_randomness(device: torch.device) -> Iterator[None]:
    theirs, numpys = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            random.setstate(theirs)
            np.random.set_state(numpys)  # noqa: NPY002


class Transforms:
    """An augmentation by a transform of single images, see `slnlab.data.batches.Augment`.

    Args:
        transform: see `Transform`.
        cropped: True transforms the images after crop, flip and rotation; False the whole images, which the transform
            crops itself.
    """

    def __init__(self, transform: Transform, cropped: bool) -> None:
        self.transform, self.cropped = transform, cropped

    def __call__(self, images: Images, generator: torch.Generator) -> Tensor:
        """Raises ConfigError if the transformed images have another type or size than the data set's."""
        seed = generator.initial_seed()  # the stream's own; a draw would make the host wait for the device
        before = crop_flipped(images, generator) if self.cropped else images.whole()
        places = range(images.shard.start, images.shard.start + len(before))
        found = each(self.transform, before, (derive(seed, "transform", place) for place in places), before.device)
        wanted = (len(before), before.shape[1], *images.size)
        if found.dtype != torch.uint8 or tuple(found.shape) != wanted:
            raise ConfigError(
                f"data.augment: gives {found.dtype} {tuple(found.shape[1:])}, but images must stay torch.uint8 "
                f"{wanted[1:]}; normalisation follows"
            )
        return found


def plain(images: Images, generator: torch.Generator) -> Tensor:
    """No augmentation: the middle of the images."""
    return images.pixels()


def augmentation(choice: Augmentation, size: tuple[int, int], flip: bool) -> Augment:
    """The augmentation of this name, or of a list of transforms.

    Args:
        choice: `crop_flip`, random crop, flip and rotation as `CropFlip`; `random_resized`, a crop of random size and
            shape (Szegedy et al. 2015); `trivial`, crop_flip and TrivialAugment (Müller & Hutter 2021); `randaugment`,
            crop_flip and RandAugment (Cubuk et al. 2020), both with torchvision's values; `none`; or nodes with a
            `_target_` each.
        size: (H, W) of the network's input.
        flip: flip images horizontally at random; only for `random_resized`.

    Raises:
        ConfigError: a transform cannot be made.
    """
    named: dict[str, Callable[[], Augment]] = {
        "crop_flip": lambda: crop_flipped,
        "none": lambda: plain,
        "random_resized": lambda: Transforms(_random_resized(size, flip), cropped=False),
        "trivial": lambda: Transforms(v2.TrivialAugmentWide(), cropped=True),
        "randaugment": lambda: Transforms(v2.RandAugment(), cropped=True),
    }
    if isinstance(choice, str):
        return named[choice]()
    steps: list[Any] = []
    for number, node in enumerate(choice):
        try:
            steps.append(instantiate(node, _convert_="all"))
        except Exception as error:  # constructors raise many types
            reason = str(error.__cause__ or error).splitlines()[0]
            raise ConfigError(f"data.augment[{number}]: {node.get('_target_')} cannot be made: {reason}") from error
    return Transforms(v2.Compose(steps), cropped=False)


def _random_resized(size: tuple[int, int], flip: bool) -> v2.Transform:
    return v2.Compose([v2.RandomResizedCrop(size, antialias=True), *([v2.RandomHorizontalFlip()] if flip else [])])
