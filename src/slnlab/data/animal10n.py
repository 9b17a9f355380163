"""ANIMAL-10N (Song et al. 2019) in its published files: five pairs of animals that people confuse."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

from slnlab.data.published import Published, PublishedFiles
from slnlab.data.source import Split
from slnlab.errors import DataError
from slnlab.image_folder.layout import walk, why_no_image


class Animal10N(PublishedFiles):
    """ANIMAL-10N: 50,000 noisy training and 5,000 clean test images of 64×64 pixels.

    People labelled the images, and about 8 % of the training labels are wrong. `root` holds the two folders of
    `raw_image_ver.zip`, `training/` and `testing/`. The number before the first `_` of a file's name is its label:
    `3_img_17.jpg`. Some papers' layout `train/<label>/`, `test/<label>/` is read too; there the folder is the label.

    Args:
        root: directory of the two folders.
    """

    name = "animal10n"
    about: ClassVar[Published] = Published(
        "ANIMAL-10N",
        {
            "training|train": "50,000 images <label>_img_<n>.jpg, or folders <label>/",
            "testing|test": "5,000 images",
        },
        "Its authors give raw_image_ver.zip out on request, at https://dm.kaist.ac.kr/datasets/animal-10n, where its "
        "terms of use stand.",
    )

    def __init__(self, root: str) -> None:
        super().__init__(root)

    def listed(self, split: Split) -> list[tuple[str, int]]:
        folder = self.about.find(self.root, "training|train" if split == "train" else "testing|test")
        pairs = []
        for where, files in walk(folder):
            for file in files:
                if why_no_image(file) is None:
                    path = Path(file.path)
                    name = file.name if Path(where) == folder else Path(where).name
                    pairs.append((path.relative_to(self.root).as_posix(), _label(path, name)))
        if not pairs:
            raise DataError(f"{folder}: has no image")
        return sorted(pairs)


def _label(path: Path, name: str) -> int:
    """The number that a name begins with: `3_img_17.jpg`, or the folder `3`."""
    match = re.match(r"([0-9])(_|$)", name)
    if match is None:
        raise DataError(f"{path}: {name!r} does not begin with a label from 0 to 9, as in 3_img_17.jpg")
    return int(match[1])
