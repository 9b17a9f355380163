"""CIFAR-10 and CIFAR-100: published files are read by torchvision, other files in their format without execution."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torchvision import datasets
from torchvision.datasets.utils import check_integrity

from slnlab.data.source import LabelledImages, Split
from slnlab.data.torchvision_files import read
from slnlab.errors import DataError
from slnlab.text.messages import quoted

_RECONSTRUCT = np.zeros(1, np.uint8).__reduce__()[0]
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): lambda text, encoding: text.encode(encoding) if encoding == "latin1" else None,
}
"""Functions allowed in a pickled batch. Python 3 encodes bytes as text in files of protocol 2."""


class CIFAR:
    """CIFAR-10 or CIFAR-100: 50,000 training and 10,000 test images of 32×32 in colour.

    Args:
        classes: 10 or 100 (fine labels).
        root: directory of `cifar-10-batches-py/` or `cifar-100-python/`.
        download: fetch missing files. Files with other checksums are written over only from an archive beside them,
            which a stopped download has left.
        verify: compare checksums with the published files. False: read any files in the published format; their
            pickles execute nothing.
    """

    def __init__(self, classes: Literal[10, 100], root: str, download: bool = True, verify: bool = True) -> None:
        self.name = f"cifar{classes}"
        self._reader = datasets.CIFAR10 if classes == 10 else datasets.CIFAR100
        self.root, self.download, self.verify = root, download, verify

    def prepare(self) -> None:
        if self.verify or not self._folder.is_dir():
            self._read(train=True, download=self.download)

    def load(self, split: Split) -> LabelledImages:
        if not self.verify:
            files = self._reader.train_list if split == "train" else self._reader.test_list
            parts = [_batch(self._folder / name) for name, _ in files]
            return LabelledImages(*map(torch.cat, zip(*parts, strict=True)))
        found = self._read(train=split == "train", download=False)
        images = torch.from_numpy(found.data).permute(0, 3, 1, 2).contiguous()
        return LabelledImages(images, torch.tensor(found.targets, dtype=torch.int64))

    @property
    def _folder(self) -> Path:
        return Path(os.path.expanduser(self.root)) / self._reader.base_folder

    def _read(self, *, train: bool, download: bool) -> Any:
        archive = Path(os.path.expanduser(self.root)) / self._reader.filename
        if download and not archive.is_file():  # a download would write over files of the user's own
            self._refuse_other_files()
        try:
            return read(self._reader, self.root, train=train, download=download)
        except DataError:
            self._refuse_other_files()
            raise

    def _refuse_other_files(self) -> None:
        meta = self._reader.meta["filename"], self._reader.meta["md5"]
        names = (*self._reader.train_list, *self._reader.test_list, meta)
        present = [(self._folder / name, md5) for name, md5 in names]
        other = [path.name for path, md5 in present if path.is_file() and not check_integrity(path, md5)]
        if other:
            raise DataError(
                f"{self._reader.__name__}: not the published files, or corrupt: {quoted(other, 3)} in {self._folder}; "
                "data.source.verify=false reads them all the same; or remove them and allow "
                "data.source.download=true, or name another directory with data.source.root"
            )


class _Arrays(pickle.Unpickler):
    """An unpickler of arrays of numbers; anything else is refused."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it holds {module}.{name}, which was not executed") from None


def _batch(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Read the images (N, 3, 32, 32) uint8 and labels (N,) int64 of one file.

    The file is a pickled dictionary with `data` (N, 3072) uint8, and `labels` or `fine_labels` of N integers.

    Raises:
        DataError: the file is missing or has another format.
    """
    try:
        with open(path, "rb") as file:
            content = _Arrays(file, encoding="latin1").load()
        pixels = content["data"]
        labels = torch.tensor(content["fine_labels" if "fine_labels" in content else "labels"])
        if pixels.dtype != np.uint8 or labels.dtype != torch.int64 or labels.ndim != 1:
            raise TypeError("its pixels are no bytes, or its labels no integers")
        images = torch.from_numpy(pixels.reshape(len(labels), 3, 32, 32).copy())
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except Exception as error:  # pickle and NumPy raise many types for a broken file
        raise DataError(f"{path}: is no batch of images in CIFAR's format ({error or type(error).__name__})") from error
    return images, labels
