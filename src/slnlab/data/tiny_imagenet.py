"""Tiny-ImageNet in its published files: 200 classes of ImageNet at 64×64 pixels, with labels that count as clean."""

from __future__ import annotations

from typing import ClassVar

from slnlab.data.published import Published, PublishedFiles, list_lines
from slnlab.data.source import Split
from slnlab.errors import DataError
from slnlab.image_folder.layout import entries, why_no_image


class TinyImageNet(PublishedFiles):
    """Tiny-ImageNet: 100,000 training images; its 10,000 validation images are the test set.

    `wnids.txt` names the classes in no order; labels number their *sorted* names, as in the field. The published
    folder `test/` has no labels and is not read. Some images are grey.

    Args:
        root: directory `tiny-imagenet-200/`.
        missing: treatment of listed images that are not there.
    """

    name = "tiny_imagenet"
    about: ClassVar[Published] = Published(
        "Tiny-ImageNet",
        {
            "wnids.txt": "200 synsets, unsorted",
            "train": "<synset>/images/<synset>_<n>.JPEG, 500 of each",
            "val/val_annotations.txt": "10,000 lines: file, synset, box",
            "val/images": "val_<n>.JPEG",
        },
        "tiny-imagenet-200.zip is at http://cs231n.stanford.edu; ImageNet's terms of access hold: non-commercial "
        "research and education.",
    )

    def synsets(self) -> list[str]:
        """Return the synsets of the labels 0, 1, …"""
        return sorted({name for _, (name,) in list_lines(self.root / "wnids.txt", columns=1)})

    def listed(self, split: Split) -> list[tuple[str, int]]:
        number_of = {name: number for number, name in enumerate(self.synsets())}
        if split == "train":
            folders = {name: self.root / "train" / name / "images" for name in number_of}
            return [
                (f"train/{name}/images/{entry.name}", number_of[name])
                for name, folder in folders.items()
                for entry in entries(folder)
                if why_no_image(entry) is None
            ]
        file = self.root / "val" / "val_annotations.txt"
        pairs = []
        for line, (image, synset, *_) in list_lines(file, columns=6):
            if synset not in number_of:
                raise DataError(f"{file}: line {line}: {synset!r} is not in wnids.txt")
            pairs.append((f"val/images/{image}", number_of[synset]))
        return pairs
