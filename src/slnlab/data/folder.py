"""Images of one's own: a folder for each class, with labels that may be wrong."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import torch

from slnlab.data.decoding import Paths
from slnlab.data.streamed import LabelledPaths
from slnlab.errors import DataError
from slnlab.image_folder.listing import ImageFolderContents, Unreadable, read_image_folder
from slnlab.image_folder.report import report


class ImageFolder:
    """`root/train/<class>/…`, or `root/<class>/…`; `root/val/` and `root/test/`, if there, have correct labels.

    Args:
        root: see `slnlab.image_folder.listing.read_image_folder`.
        unreadable: what becomes of images that cannot be read.
    """

    name = "folder"

    def __init__(self, root: str, unreadable: Unreadable = "refuse") -> None:
        self.root, self.unreadable = os.path.expanduser(root), unreadable

    def prepare(self) -> None:
        self._read()

    def inspect(self, directory: Path, workers: int | None, mixed_depths: bool) -> None:
        unreadable, duplicates = directory / "unreadable.csv", directory / "duplicates.csv"
        report(self.root, self._read(), workers, unreadable, duplicates, mixed_depths)

    def load(self, split: Literal["train", "val_clean", "test"]) -> LabelledPaths:
        paths, labels = self._read().splits[split]
        if not paths:
            key, folder = {"val_clean": ("clean_val", "val"), "test": ("test", "test")}[split]
            raise DataError(f"data.{key}: {self.root} has no {folder}/; data.{key}=false")
        return LabelledPaths(Paths(self.root, paths), torch.tensor(labels, dtype=torch.int64))

    def _read(self) -> ImageFolderContents:
        return read_image_folder(self.root, self.unreadable)
