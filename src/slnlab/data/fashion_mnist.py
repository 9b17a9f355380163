"""Fashion-MNIST from Debian's package if it is installed, otherwise from torchvision's download."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import torch
from torchvision import datasets

from slnlab.data.source import LabelledImages, Split
from slnlab.data.torchvision_files import read
from slnlab.errors import ConfigError, DataError
from slnlab.schema.kinds import ClassNumbers
from slnlab.storage.writing import replacing

DEBIAN_PACKAGE = Path("/usr/share/datasets/fashion-mnist")
"""Folder of the IDX files of Debian's package `dataset-fashion-mnist`."""


class FashionMNIST:
    """Fashion-MNIST: 60,000 training and 10,000 test images of 28×28 in grey.

    Args:
        root: directory of `FashionMNIST/raw/`.
        download: fetch the files if neither `root` nor Debian's package has them.
        verify: require the published files (`slnlab.config.contents` compares); False: accept others.
        only: classes in [0, 10) to keep, which become classes 0, 1, …; None: all.

    Raises:
        ConfigError: `only` names a class twice, or one that does not exist.
    """

    name = "fashion_mnist"

    def __init__(self, root: str, download: bool = True, verify: bool = True, only: ClassNumbers | None = None) -> None:
        self.root, self.download, self.verify = root, download, verify
        self.only = None if only is None else list(only)
        if self.only is not None and not (len({*self.only}) == len(self.only) and {*self.only} <= {*range(10)}):
            raise ConfigError(f"only: {self.only} is not allowed: different classes in [0, 10)")

    def prepare(self) -> None:
        raw = Path(self.root).expanduser() / "FashionMNIST" / "raw"
        for packed in sorted(DEBIAN_PACKAGE.glob("*.gz")):
            if not (raw / packed.stem).exists():
                _unpack(packed, raw)
        read(datasets.FashionMNIST, self.root, train=True, download=self.download)

    def load(self, split: Split) -> LabelledImages:
        files = read(datasets.FashionMNIST, self.root, train=split == "train", download=False)
        images = LabelledImages(files.data.unsqueeze(1), files.targets.to(torch.int64))
        return images if self.only is None else images.only(self.only)


def _unpack(packed: Path, folder: Path) -> None:
    """Unpack `name.gz` to `folder/name` atomically; two processes may do so at once."""
    try:
        content = gzip.decompress(packed.read_bytes())
        if not content:  # gzip accepts an empty file
            raise EOFError("it is empty")
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{packed}: cannot be unpacked ({error}); install dataset-fashion-mnist anew") from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder} cannot be made ({error}); name another directory with data.source.root") from error
    with replacing(folder / packed.stem) as file:
        file.write(content)
