"""A user's own images: one folder per class, with labels that may be wrong."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from slnlab.data.decoding import Paths
from slnlab.data.source import Split
from slnlab.data.streamed import LabelledPaths
from slnlab.errors import DataError
from slnlab.image_folder.contents import ImageFolderContents
from slnlab.image_folder.listing import Unreadable, read_image_folder
from slnlab.image_folder.report import report
from slnlab.image_folder.votes import Votes, frequencies


class ImageFolder:
    """Images in `root/train/<class>/…` or `root/<class>/…`; optional `root/val/` and `root/test/` have clean labels.

    Args:
        root: see `slnlab.image_folder.listing.read_image_folder`.
        unreadable: treatment of unreadable images.
        labels: CSV file that overrides training labels; None: no file.
        votes: the given label of an image with several annotators: the commonest one ("majority", "frequency"), or the
            likeliest true one ("dawid_skene"). With "frequency" the target is the shares of their labels.
    """

    name = "folder"

    def __init__(
        self, root: str, unreadable: Unreadable = "refuse", labels: str | None = None, votes: Votes = "majority"
    ) -> None:
        self.root, self.unreadable, self.labels = os.path.expanduser(root), unreadable, labels
        self.votes: Votes = votes

    def prepare(self) -> None:
        self._read()

    def inspect(self, directory: Path, workers: int | None, mixed_depths: bool) -> None:
        unreadable, duplicates = directory / "unreadable.csv", directory / "duplicates.csv"
        report(self.root, self._read(), workers, unreadable, duplicates, mixed_depths)

    def load(self, split: Split) -> LabelledPaths:
        contents = self._read()
        paths, labels = contents.splits[split]
        if not paths:
            key, folder = {"val_clean": ("clean_val", "val"), "test": ("test", "test")}[split]
            raise DataError(f"data.{key}: {self.root} has no {folder} images; data.{key}=false")
        return LabelledPaths(Paths(contents.top, paths), torch.tensor(labels, dtype=torch.int64))

    def true_labels(self) -> torch.Tensor | None:
        contents = self._read()
        if contents.true is None:
            return None
        return torch.tensor([contents.true[path] for path in contents.splits["train"].paths], dtype=torch.int64)

    def corrections(self) -> Mapping[str, tuple[int, int | None]]:
        return self._read().corrections or {}

    def weights(self) -> Mapping[str, float]:
        return self._read().weights or {}

    def targets(self) -> Mapping[str, npt.NDArray[np.float32]]:
        """Return training image → target (C,) other than its given label; a label of `labels` counts alone."""
        contents = self._read()
        if self.votes != "frequency":
            return {}
        shares = frequencies(contents.answers or {}, len(contents.classes))
        return {path: share for path, share in shares.items() if path not in contents.stated}

    def lines(self) -> Mapping[str, int]:
        return self._read().lines or {}

    def _read(self) -> ImageFolderContents:
        return read_image_folder(self.root, self.unreadable, labels=self.labels, votes=self.votes)
