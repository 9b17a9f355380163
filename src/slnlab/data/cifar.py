"""CIFAR-10 and CIFAR-100 in their published files, read by torchvision."""

from __future__ import annotations

from typing import Literal

import torch
from torchvision import datasets

from slnlab.data.source import LabelledImages, Split
from slnlab.data.torchvision_files import read


class CIFAR:
    """50,000 training and 10,000 test images of 32×32 in colour.

    Args:
        classes: 10 or 100 (fine labels).
        root: the directory that holds (or will hold) `cifar-10-batches-py/` or `cifar-100-python/`.
        download: fetch the files when they are not there.
    """

    def __init__(self, classes: Literal[10, 100], root: str, download: bool = True) -> None:
        self.name = f"cifar{classes}"
        self._reader = datasets.CIFAR10 if classes == 10 else datasets.CIFAR100
        self.root, self.download = root, download

    def prepare(self) -> None:
        read(self._reader, self.root, train=True, download=self.download)

    def load(self, split: Split) -> LabelledImages:
        files = read(self._reader, self.root, train=split == "train", download=False)
        images = torch.from_numpy(files.data).permute(0, 3, 1, 2).contiguous()
        return LabelledImages(images, torch.tensor(files.targets, dtype=torch.int64))
