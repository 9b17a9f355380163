"""A user's own images or feature vectors in a file of arrays."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from slnlab.arrays.contents import Kind, read_arrays, samples
from slnlab.arrays.corrected import CorrectedArrays, read_corrected
from slnlab.data.source import LabelledImages, Split


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
        found, corrected = torch.from_numpy(samples(self.root, self.kind, split)), self._read()
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
