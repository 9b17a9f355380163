"""Noisy Imagenette and Imagewoof (fastai): ten classes of ImageNet with published wrong labels."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch

from slnlab.data.published import Missing, Published, PublishedFiles
from slnlab.data.source import Split
from slnlab.errors import DataError
from slnlab.storage.tables import records

_CSV = "noisy_imagenette.csv|noisy_imagewoof.csv"


class NoisyImagenette(PublishedFiles):
    """Imagenette or Imagewoof with the noisy labels of its CSV file. The true labels are known.

    The columns of the file are `path`, `noisy_labels_0` (the true synset), `noisy_labels_1`, `_5`, `_25`, `_50` and
    `is_valid`. Labels number the sorted synsets. The validation images, with their true labels, are the test set.

    Args:
        root: directory of `train/`, `val/` and the CSV file, such as `imagenette2-160/`.
        percent: percentage of wrong training labels.
        missing: treatment of listed images that are not there.
    """

    name = "noisy_imagenette"
    about: ClassVar[Published] = Published(
        "Noisy Imagenette or Imagewoof",
        {
            _CSV: "the labels, in the archive of the images",
            "train": "<synset>/*.JPEG",
            "val": "<synset>/*.JPEG",
        },
        "imagenette2-160.tgz and imagewoof2-160.tgz are at https://github.com/fastai/imagenette (Apache 2.0); for the "
        "images ImageNet's terms of access hold: non-commercial research and education.",
    )

    def __init__(self, root: str, percent: Literal[0, 1, 5, 25, 50] = 50, missing: Missing = "refuse") -> None:
        super().__init__(root, missing)
        self.percent = percent

    def listed(self, split: Split) -> list[tuple[str, int]]:
        return self._rows(split, self.percent if split == "train" else 0)

    def true_labels(self) -> torch.Tensor:
        paths, _ = self.load("train")
        true = dict(self._rows("train", 0))
        return torch.tensor([true[paths.relative(row)] for row in range(len(paths))], dtype=torch.int64)

    def _rows(self, split: Split, percent: int) -> list[tuple[str, int]]:
        file = self.about.find(self.root, _CSV)
        column = f"noisy_labels_{percent}"
        _, lines = records(file, ("path", "noisy_labels_0", column, "is_valid"))
        rows = list(lines)
        number_of = {name: number for number, name in enumerate(sorted({row["noisy_labels_0"] for _, row in rows}))}
        pairs = []
        for line, row in rows:
            if row["is_valid"] not in ("True", "False") or row[column] not in number_of:
                raise DataError(
                    f"{file}: line {line}: is_valid must be True or False, and {column} a synset of noisy_labels_0"
                )
            if (row["is_valid"] == "True") == (split == "test"):
                pairs.append((row["path"], number_of[row[column]]))
        if not pairs:
            raise DataError(f"{file}: has no {split} image")
        return pairs
