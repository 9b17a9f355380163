"""ANIMAL-10N (Song et al. 2019) in its published files: five pairs of animals that people confuse."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

from slnlab.data.published import Published, labelled
from slnlab.data.streamed import FileSplit, LabelledPaths
from slnlab.errors import DataError
from slnlab.image_folder.contents import mixed
from slnlab.image_folder.layout import walk, why_no_image

_FOLDERS = {"train": "training|train", "test": "testing|test"}


class Animal10N:
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
        self.root = Path(root).expanduser()

    def prepare(self) -> None:
        self.about.require(self.root)

    def load(self, split: FileSplit) -> LabelledPaths:
        self.prepare()
        if split not in _FOLDERS:
            raise DataError("data.clean_val: ANIMAL-10N has no clean validation images; data.clean_val=false")
        folder = self.about.find(self.root, _FOLDERS[split])
        assert folder is not None
        pairs = []
        for where, files in walk(folder):
            for file in files:
                if why_no_image(file) is None:
                    name = file.name if Path(where) == folder else Path(where).name
                    path = Path(file.path)
                    pairs.append((path.relative_to(self.root).as_posix(), _label(path, name)))
        if not pairs:
            raise DataError(f"{folder}: has no image")
        paths, labels = mixed(pairs) if split == "train" else zip(*sorted(pairs), strict=True)
        return labelled(self.root, zip(paths, labels, strict=True))


def _label(path: Path, name: str) -> int:
    """The number that a name begins with: `3_img_17.jpg`, or the folder `3`."""
    match = re.match(r"([0-9])(_|$)", name)
    if match is None:
        raise DataError(f"{path}: {name!r} does not begin with a label from 0 to 9, as in 3_img_17.jpg")
    return int(match[1])
