"""Fashion-MNIST: from Debian's package when it is installed, otherwise by torchvision's download."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import torch
from torchvision import datasets

from slnlab.data.source import LabelledImages, Split
from slnlab.data.torchvision_files import read
from slnlab.errors import DataError
from slnlab.storage.writing import replacing

DEBIAN_PACKAGE = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package `dataset-fashion-mnist` puts the IDX files."""


class FashionMNIST:
    """60,000 training and 10,000 test images of 28×28.

    Args:
        root: the directory that holds (or will hold) `FashionMNIST/raw/`.
        download: fetch the files when neither `root` nor Debian's package has them.
        verify: False: other files than the published ones are wanted (`slnlab.config.contents` looks).
    """

    name = "fashion_mnist"

    def __init__(self, root: str, download: bool = True, verify: bool = True) -> None:
        self.root, self.download, self.verify = root, download, verify

    def prepare(self) -> None:
        raw = Path(self.root).expanduser() / "FashionMNIST" / "raw"
        for packed in sorted(DEBIAN_PACKAGE.glob("*.gz")):
            if not (raw / packed.stem).exists():
                _unpack(packed, raw)
        read(datasets.FashionMNIST, self.root, train=True, download=self.download)

    def load(self, split: Split) -> LabelledImages:
        files = read(datasets.FashionMNIST, self.root, train=split == "train", download=False)
        return LabelledImages(files.data.unsqueeze(1), files.targets.to(torch.int64))


def _unpack(packed: Path, folder: Path) -> None:
    """`folder/name` from `name.gz`: complete or not at all, also when two processes do it at once."""
    try:
        content = gzip.decompress(packed.read_bytes())
        if not content:  # gzip is content with an empty file
            raise EOFError("it is empty")
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{packed}: cannot be unpacked ({error}); install dataset-fashion-mnist anew") from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder} cannot be made ({error}); name another directory with data.source.root") from error
    with replacing(folder / packed.stem) as file:
        file.write(content)
