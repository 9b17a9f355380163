"""A user's own images or feature vectors in a file of arrays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch

from slnlab.arrays.contents import Kind, read_arrays, samples, stamps
from slnlab.arrays.corrected import CorrectedArrays, read_corrected
from slnlab.data.source import LabelledImages, Split

_loaded: WeakValueDictionary[tuple[Any, ...], torch.Tensor] = WeakValueDictionary()
"""Samples that a run of this process uses. Its other runs of the same unchanged files share them."""


class ArrayFile:
    """Images or features with their labels, see `slnlab.arrays.contents`.

    Args:
        root: an `.npz` file, a folder of `.npy` files, or a `.parquet` file (features only).
        kind: "images" or "features".
        labels: CSV file that overrides training labels; None: no file.
    """

    name = "arrays"

    def __init__(self, root: str, kind: Kind, labels: str | None = None) -> None:
        self.root, self.kind, self.labels = root, kind, labels

    def prepare(self) -> None:
        read_arrays(self.root, self.kind)

    def load(self, split: Split) -> LabelledImages:
        files = tuple(sorted(stamps(Path(self.root).expanduser()).items()))
        key = self.root, self.kind, split, files
        found, corrected = _loaded.get(key), self._read()
        if found is None:
            found = _loaded[key] = torch.from_numpy(samples(self.root, self.kind, split))
        if split == "train" and len(corrected.rows) < len(found):
            found = found[torch.from_numpy(corrected.rows)]
        return LabelledImages(found, torch.from_numpy(corrected.contents.labels[split]))

    def true_labels(self) -> torch.Tensor | None:
        true = self._read().contents.true
        return None if true is None else torch.from_numpy(true)

    def names(self) -> list[str] | None:
        return self._read().contents.paths

    def corrections(self) -> Mapping[str, tuple[int, int | None]]:
        return self._read().corrections

    def weights(self) -> Mapping[str, float]:
        return self._read().weights

    def _read(self) -> CorrectedArrays:
        return read_corrected(self.root, self.kind, self.labels)
