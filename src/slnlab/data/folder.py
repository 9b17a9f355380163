"""A user's own images: one folder per class, with labels that may be wrong."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from slnlab.data.decoding import Paths
from slnlab.data.streamed import FileSplit, LabelledPaths
from slnlab.errors import DataError
from slnlab.image_folder.listing import ImageFolderContents, Unreadable, read_image_folder
from slnlab.image_folder.report import report


class ImageFolder:
    """Images in `root/train/<class>/…` or `root/<class>/…`; optional `root/val/` and `root/test/` have clean labels.

    Args:
        root: see `slnlab.image_folder.listing.read_image_folder`.
        unreadable: treatment of unreadable images.
    """

    name = "folder"

    def __init__(self, root: str, unreadable: Unreadable = "refuse") -> None:
        self.root, self.unreadable = os.path.expanduser(root), unreadable

    def prepare(self) -> None:
        self._read()

    def inspect(self, directory: Path, workers: int | None, mixed_depths: bool) -> None:
        unreadable, duplicates = directory / "unreadable.csv", directory / "duplicates.csv"
        report(self.root, self._read(), workers, unreadable, duplicates, mixed_depths)

    def load(self, split: FileSplit) -> LabelledPaths:
        paths, labels = self._read().splits[split]
        if not paths:
            key, folder = {"val_clean": ("clean_val", "val"), "test": ("test", "test")}[split]
            raise DataError(f"data.{key}: {self.root} has no {folder}/; data.{key}=false")
        return LabelledPaths(Paths(self.root, paths), torch.tensor(labels, dtype=torch.int64))

    def _read(self) -> ImageFolderContents:
        return read_image_folder(self.root, self.unreadable)
