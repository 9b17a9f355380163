"""Clothing1M (Xiao et al. 2015) in its published files: photographs of clothes labelled by the text around them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from slnlab.data.decoding import Paths
from slnlab.data.streamed import LabelledPaths
from slnlab.errors import DataError

_FILES = {
    "train": ("noisy_train_key_list.txt", "noisy_label_kv.txt"),
    "val_clean": ("clean_val_key_list.txt", "clean_label_kv.txt"),
    "test": ("clean_test_key_list.txt", "clean_label_kv.txt"),
}
"""Of each split the list of its images, and the file that has their labels."""


class Clothing1M:
    """About 1,000,000 training images with noisy labels; 14,313 and 10,526 with correct ones to choose by and to test.

    The data set is given out on request, so nothing is downloaded. In `root`, or in its folder `annotations`, lie the
    lists `noisy_train_key_list.txt`, `clean_val_key_list.txt`, `clean_test_key_list.txt` (a path such as
    `images/0/00/1,2.jpg` per line, relative to `root`) and `noisy_label_kv.txt`, `clean_label_kv.txt` (a path, a space,
    and a class 0 to 13). The 47,570 correctly labelled training images (`clean_train_key_list.txt`) are not used, as in
    the paper's tables.

    Args:
        root: the directory with `images/`.
    """

    name = "clothing1m"

    def __init__(self, root: str) -> None:
        self.root = Path(root)

    def prepare(self) -> None:
        if not (self.root / "images").is_dir():
            raise DataError(
                f"{self.root}: has no folder images/ of Clothing1M, which its authors give out on request; name the "
                "directory that has it with data.source.root"
            )
        for name in dict.fromkeys(file for files in _FILES.values() for file in files):
            self._find(name)

    def load(self, split: Literal["train", "val_clean", "test"]) -> LabelledPaths:
        keys_file, labels_file = map(self._find, _FILES[split])
        keys = _lines(keys_file)
        if not keys:
            raise DataError(f"{keys_file}: names no image")
        wanted = set(keys)
        labels: dict[str, int] = {}
        for number, line in enumerate(_lines(labels_file), start=1):
            key, label = line.rsplit(maxsplit=1) if " " in line or "\t" in line else (line, "")
            if not (label.isascii() and label.isdigit()):
                raise DataError(f"{labels_file}: line {number} must be a path and a class, found {line[:80]!r}")
            if key in wanted and labels.setdefault(key, int(label)) != int(label):
                raise DataError(
                    f"{labels_file}: line {number} gives {key} the label {label}, a line above {labels[key]}"
                )
        for key in keys:
            if key not in labels:
                raise DataError(f"{labels_file}: has no label for {key}, which {keys_file.name} lists")
        return LabelledPaths(Paths(self.root, keys), torch.tensor([labels[key] for key in keys], dtype=torch.int64))

    def _find(self, name: str) -> Path:
        for folder in (self.root, self.root / "annotations"):
            if (folder / name).is_file():
                return folder / name
        raise DataError(f"{self.root}: has no {name} of Clothing1M, nor has its folder annotations")


def _lines(path: Path) -> list[str]:
    """The lines of a list, stripped; empty ones do not count."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    return [line.strip() for line in text.splitlines() if line.strip()]
