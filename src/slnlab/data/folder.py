"""Images of one's own: a folder for each class, with labels that may be wrong."""

from __future__ import annotations

import os
from typing import Literal

import torch

from slnlab.data.decoding import Paths
from slnlab.data.streamed import LabelledPaths
from slnlab.errors import DataError
from slnlab.image_folder import read_image_folder


class ImageFolder:
    """`root/train/<class>/…`, or `root/<class>/…`; `root/val/` and `root/test/`, if there, have correct labels.

    Args:
        root: see `slnlab.image_folder.read_image_folder`.
    """

    name = "folder"

    def __init__(self, root: str) -> None:
        self.root = os.path.expanduser(root)

    def prepare(self) -> None:
        read_image_folder(self.root)

    def load(self, split: Literal["train", "val_clean", "test"]) -> LabelledPaths:
        paths, labels = read_image_folder(self.root).splits[split]
        if not paths:
            key, folder = {"val_clean": ("clean_val", "val"), "test": ("test", "test")}[split]
            raise DataError(f"data.{key}: {self.root} has no {folder}/; data.{key}=false")
        return LabelledPaths(Paths(self.root, paths), torch.tensor(labels, dtype=torch.int64))
