"""A made-up data set of distinct images, so that an image identifies its sample."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from slnlab.data import ImageDataModule
from slnlab.data.batches import Batch
from slnlab.data.source import LabelledImages, Split

SYMMETRIC = {"_target_": "slnlab.noise.symmetric", "name": "sym", "rate": 0.4, "seed": 0}
CLEAN = {"_target_": "slnlab.noise.clean", "name": "none", "rate": 0.0, "seed": 0}
CLASSES = 5


class Pictures:
    """A source. No pixel is 0, so that none looks like padding."""

    name = "pictures"

    def __init__(self, train: int = 100, test: int = 30, shape: tuple[int, ...] = (1, 6, 5), seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.splits = {
            split: LabelledImages(
                torch.randint(1, 256, (size, *shape), dtype=torch.uint8, generator=generator),
                torch.randint(CLASSES, (size,), generator=generator),
            )
            for split, size in (("train", train), ("test", test))
        }
        self.prepared = 0
        self.read: list[str] = []

    def prepare(self) -> None:
        self.prepared += 1

    def load(self, split: Split) -> LabelledImages:
        self.read.append(split)
        return LabelledImages(*(tensor.clone() for tensor in self.splits[split]))


class OnlyTraining(Pictures):
    def load(self, split: Split) -> LabelledImages:
        assert split != "test", "the test set was read"
        return super().load(split)


class Donors(Pictures):
    """Images for open-set noise; `_target_` in a noise node."""

    name = "donors"

    def __init__(self) -> None:
        super().__init__(train=70, seed=1)


class Alike(Pictures):
    """One image repeated many times."""

    def __init__(self) -> None:
        super().__init__(train=64, test=1)
        images, labels = self.splits["train"]
        self.splits["train"] = LabelledImages(images[:1].expand_as(images).clone(), labels)


def make(source: Pictures | None = None, noise: Any = CLEAN, **options: Any) -> ImageDataModule:
    """A datamodule that leaves pixels alone unless asked: (pixel/255 − 0)/1, no crop, no flip."""
    source = source or Pictures()
    channels = source.splits["train"].images.shape[1]
    defaults: dict[str, Any] = {
        "num_classes": CLASSES,
        "batch_size": 32,
        "eval_batch_size": 40,
        "mean": [0.0] * channels,
        "std": [1.0] * channels,
    }
    return ImageDataModule(source, noise, **(defaults | options))


def ready(source: Pictures | None = None, noise: Any = CLEAN, **options: Any) -> ImageDataModule:
    datamodule = make(source, noise, **options)
    datamodule.prepare_data()
    datamodule.setup()
    return datamodule


def batches(datamodule: ImageDataModule, epoch: int = 0) -> list[Batch]:
    return [make() for make in datamodule.epoch(epoch)]


def order(datamodule: ImageDataModule, epoch: int = 0) -> list[int]:
    return [row for batch in batches(datamodule, epoch) for row in batch.index.tolist()]


def pixels(image: Tensor) -> Tensor:
    """The bytes that normalising with mean 0 and std 1 made this image from."""
    assert image.dtype == torch.float32
    return (image * 255).round().to(torch.uint8)
