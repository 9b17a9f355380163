"""Clothing1M (Xiao et al. 2015) in its published files: photographs of clothes, labelled from surrounding text."""

from __future__ import annotations

from typing import ClassVar

import torch

from slnlab.data.decoding import Paths
from slnlab.data.published import Published, PublishedFiles, list_lines
from slnlab.data.source import Split
from slnlab.data.streamed import LabelledPaths
from slnlab.errors import DataError

_FILES: dict[Split, tuple[str, str]] = {
    "train": ("noisy_train_key_list.txt", "noisy_label_kv.txt"),
    "val_clean": ("clean_val_key_list.txt", "clean_label_kv.txt"),
    "test": ("clean_test_key_list.txt", "clean_label_kv.txt"),
}
"""Split → the list of its images, and the file of their labels."""


class Clothing1M(PublishedFiles):
    """Clothing1M: 1,000,000 noisy training images, 14,313 clean validation images and 10,526 clean test images.

    The authors give the data set out on request, so nothing is downloaded. `root` or `root/annotations` holds the lists
    `noisy_train_key_list.txt`, `clean_val_key_list.txt` and `clean_test_key_list.txt` (one path per line, relative to
    `root`, such as `images/0/00/1,2.jpg`), and `noisy_label_kv.txt` and `clean_label_kv.txt` (a path, a space and a
    class from 0 to 13 per line). The 47,570 clean training images (`clean_train_key_list.txt`) are not used, as in
    the SLN paper's tables.

    Args:
        root: directory with `images/`.
    """

    name = "clothing1m"

    about: ClassVar[Published] = Published(
        "Clothing1M",
        {
            "images": "0/00/1,2.jpg and so on",
            **{
                f"{name}|annotations/{name}": "lines with a path" + (" and a class" if "kv" in name else "")
                for name in dict.fromkeys(name for names in _FILES.values() for name in names)
            },
        },
        "Its authors give it out on request, for research: https://github.com/Cysu/noisy_label.",
    )
    splits: ClassVar[tuple[Split, ...]] = ("train", "val_clean", "test")

    def __init__(self, root: str) -> None:
        super().__init__(root)

    def load(self, split: Split) -> LabelledPaths:
        """Return the images of a split in the order of its list. It does not look for a million files."""
        self.prepare()
        paths, labels = zip(*self.listed(split), strict=True)
        return LabelledPaths(Paths(self.root, paths), torch.tensor(labels, dtype=torch.int64))

    def listed(self, split: Split) -> list[tuple[str, int]]:
        keys_file, labels_file = (self.about.find(self.root, f"{name}|annotations/{name}") for name in _FILES[split])
        keys = [key for _, (key,) in list_lines(keys_file, columns=None)]
        wanted = set(keys)
        labels: dict[str, int] = {}
        for number, (line,) in list_lines(labels_file, columns=None):
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
        return [(key, labels[key]) for key in keys]
