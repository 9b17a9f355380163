"""Fashion-MNIST: from Debian's package when it is installed, otherwise by torchvision's download."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import torch
from torchvision import datasets

from slnlab.data.source import LabelledImages, Split
from slnlab.data.torchvision_files import read

DEBIAN_PACKAGE = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package `dataset-fashion-mnist` puts the IDX files."""


class FashionMNIST:
    """60,000 training and 10,000 test images of 28×28.

    Args:
        root: the directory that holds (or will hold) `FashionMNIST/raw/`.
        download: fetch the files when neither `root` nor Debian's package has them.
    """

    name = "fashion_mnist"

    def __init__(self, root: str, download: bool = True) -> None:
        self.root, self.download = root, download

    def prepare(self) -> None:
        raw = Path(self.root) / "FashionMNIST" / "raw"
        for packed in DEBIAN_PACKAGE.glob("*.gz"):
            unpacked = raw / packed.stem
            if not unpacked.exists():
                raw.mkdir(parents=True, exist_ok=True)
                partial = unpacked.with_suffix(".partial")
                with gzip.open(packed) as source, partial.open("wb") as target:
                    shutil.copyfileobj(source, target)
                partial.replace(unpacked)
        read(datasets.FashionMNIST, self.root, train=True, download=self.download)

    def load(self, split: Split) -> LabelledImages:
        files = read(datasets.FashionMNIST, self.root, train=split == "train", download=False)
        return LabelledImages(files.data.unsqueeze(1), files.targets.to(torch.int64))
