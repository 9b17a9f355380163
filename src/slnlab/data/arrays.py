"""A user's own images or feature vectors in a file of arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch

from slnlab.arrays.contents import Kind, read_arrays, samples, stamps
from slnlab.data.source import LabelledImages, Split

_loaded: WeakValueDictionary[tuple[Any, ...], torch.Tensor] = WeakValueDictionary()
"""Samples that a run of this process uses. Its other runs of the same unchanged files share them."""


class ArrayFile:
    """Images or features with their labels, see `slnlab.arrays.contents`.

    Args:
        root: an `.npz` file, a folder of `.npy` files, or a `.parquet` file (features only).
        kind: "images" or "features".
    """

    name = "arrays"

    def __init__(self, root: str, kind: Kind) -> None:
        self.root, self.kind = root, kind

    def prepare(self) -> None:
        read_arrays(self.root, self.kind)

    def load(self, split: Split) -> LabelledImages:
        files = tuple(sorted(stamps(Path(self.root).expanduser()).items()))
        key = self.root, self.kind, split, files
        found = _loaded.get(key)
        if found is None:
            found = _loaded[key] = torch.from_numpy(samples(self.root, self.kind, split))
        return LabelledImages(found, torch.from_numpy(read_arrays(self.root, self.kind).labels[split]))

    def true_labels(self) -> torch.Tensor | None:
        true = read_arrays(self.root, self.kind).true
        return None if true is None else torch.from_numpy(true)
