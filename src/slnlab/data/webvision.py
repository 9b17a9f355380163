"""mini-WebVision (Li et al. 2017; Jiang et al. 2018): 50 classes of web images, evaluated on two clean sets."""

from __future__ import annotations

import re
from typing import ClassVar

from slnlab.data.published import Missing, Published, PublishedFiles, labelled_lines, list_lines
from slnlab.data.source import Split
from slnlab.errors import DataError
from slnlab.image_folder.layout import entries, why_no_image
from slnlab.schema.kinds import Classes

_ILSVRC = "imagenet/val"


class WebVision(PublishedFiles):
    """The first classes of WebVision 1.0, the images from Google: 50 of them are mini-WebVision.

    Training images have labels of unknown quality (`info/train_filelist_google.txt`). `val_clean` is WebVision's own
    validation set (`val_images_256/`), `test` the validation set of ILSVRC12 with the same classes. The lists name
    65,944 training images of 50 classes and 2,500 for validation; ILSVRC12 has 2,500 too.

    A label is a line of `info/synsets.txt`, counted from 0, and its first word is the synset. ILSVRC12's images lie in
    folders of synsets, `imagenet/val/n01440764/*.JPEG`; the synset gives the label, never the order of the folders.

    Args:
        root: directory of `info/`, `google/`, `val_images_256/`, and, unless the test set is unused, `imagenet/val/`;
            each may be a link.
        classes: number of classes, from the first.
        missing: treatment of listed images that are not there.
    """

    name = "mini_webvision"
    about: ClassVar[Published] = Published(
        "WebVision 1.0",
        {
            "info/train_filelist_google.txt": "lines such as google/q0001/x.jpg 0",
            "info/val_filelist.txt": "lines such as val000001.jpg 0",
            "info/synsets.txt": "line i, from 0: the synset of label i",
            "google": "the training images, resized to 256 pixels",
            "val_images_256": "the validation images",
        },
        "WebVision 1.0 (google part, resized images, info) is free for non-commercial research at "
        "https://data.vision.ee.ethz.ch/cvl/webvision/dataset2017.html; ILSVRC12's validation images, here "
        "in imagenet/val/<synset>/, are, on registration, at https://image-net.org.",
    )

    splits: ClassVar[tuple[Split, ...]] = ("train", "val_clean", "test")

    def __init__(self, root: str, classes: Classes = 50, missing: Missing = "refuse") -> None:
        super().__init__(root, missing)
        self.classes = classes

    def listed(self, split: Split) -> list[tuple[str, int]]:
        if split == "test":
            return [pair for label, synset in enumerate(self.synsets()) for pair in self._of_ilsvrc(label, synset)]
        name, folder = {
            "train": ("info/train_filelist_google.txt", ""),
            "val_clean": ("info/val_filelist.txt", "val_images_256/"),
        }[split]
        pairs = [(folder + path, label) for path, label in labelled_lines(self.root / name) if label < self.classes]
        if lacking := set(range(self.classes)) - {label for _, label in pairs}:
            raise DataError(f"{self.root / name}: has no image with the label {min(lacking)}")
        return pairs

    def synsets(self) -> list[str]:
        """Return the synsets of the labels 0, 1, …

        Raises:
            DataError: `info/synsets.txt` has too few lines, or one that begins with no synset.
        """
        file = self.root / "info" / "synsets.txt"
        found = [line.split()[0] for _, (line,) in list_lines(file, columns=None)]
        wrong = [word for word in found if not re.fullmatch(r"n\d{8}", word)]
        if wrong or len(found) < self.classes:
            fault = f"{wrong[0]!r} is no synset such as n01440764" if wrong else f"has {len(found)} lines"
            raise DataError(f"{file}: {fault}; it needs the synsets of {self.classes} labels, in their order")
        return found[: self.classes]

    def _of_ilsvrc(self, label: int, synset: str) -> list[tuple[str, int]]:
        folder = self.root / _ILSVRC / synset
        inside = [entry.name for entry in entries(folder) if why_no_image(entry) is None] if folder.is_dir() else []
        if not inside:
            raise DataError(
                f"{folder}: has no image of label {label}. ILSVRC12's validation images must lie in folders of their "
                f"synsets, {self.root / _ILSVRC}/{synset}/*.JPEG; data.test=false does without them"
            )
        return [(f"{_ILSVRC}/{synset}/{name}", label) for name in inside]
