"""The contents of an image folder with one folder for each class.

The configuration takes the numbers of classes and images from here, so it can be checked before torch is imported. No
image is decoded.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from slnlab.errors import ConfigError, DataError
from slnlab.image_folder.layout import (
    SPLITS,
    class_names,
    entries,
    match_classes,
    same_but_for_case,
    split_folders,
    walk,
    why_no_image,
)
from slnlab.storage.hashes import file_hashes
from slnlab.text.messages import quoted

Unreadable = Literal["refuse", "skip"]
"""The treatment of unreadable images: the run ends before training, or leaves them out."""


class Listing(NamedTuple):
    """The images of a split: paths relative to the root, and labels as numbers of `classes`."""

    paths: list[str]
    labels: list[int]


class ImageFolderContents(NamedTuple):
    """The contents of a root. `val_clean` and `test` are empty without such a folder."""

    classes: list[str]
    splits: dict[str, Listing]
    folders: dict[str, str]
    """Split → name of its folder; empty if it is the root."""
    left_out: Counter[str]
    """Numbers of files that are no images, by suffix or reason."""
    unlabelled: list[str]
    """Images outside the folders of the classes, relative to the root."""
    remarks: list[str]
    """Remarks on the names of folders."""
    unreadable: dict[str, str]
    """Path → fault of the images that `unreadable="skip"` leaves out."""


_read: dict[str, tuple[dict[str, int], ImageFolderContents]] = {}
"""Root → times of change of its folders, and its contents. Composing one run asks for them dozens of times."""


def read_image_folder(root: str, unreadable: Unreadable = "refuse", workers: int | None = None) -> ImageFolderContents:
    """List `root/train/<class>/` with `val/` and `test/` beside it, or `root/<class>/`.

    Classes have numbers in the order of their names, as in torchvision's ImageFolder. A class's folder may hold further
    folders. Names with a leading dot are left out. The order of the training images mixes the classes and depends on
    their names alone, so the first n are a sample.

    Args:
        root: the folder. Without `train/` all its images are for training. `slnlab.image_folder.layout.SPLITS` has
            the other names of the splits.
        unreadable: "skip" decodes every image (`slnlab.image_folder.check`) and leaves unreadable ones out.
        workers: threads that decode; None uses all cores.

    Raises:
        ConfigError: `unreadable` has another value.
        DataError: the folder is missing or unreadable; it has a link to a folder around it, folders that only look like
            splits, no classes, a class without images, or a class in `val` or `test` only.
    """
    if unreadable not in get_args(Unreadable):
        raise ConfigError(f"data.unreadable: {unreadable!r} is not allowed: refuse or skip")
    top = Path(root).expanduser()
    if not root or not top.is_dir():
        raise DataError(f"data.source.root: {root!r} is no folder")
    known = _read.get(root + unreadable)
    if known is None or any(_changed(folder) != when for folder, when in known[0].items()):
        known = _contents(top)
        if unreadable == "skip":
            known = (known[0], _readable(top, known[1], workers))
        _read[root + unreadable] = known
    return known[1]


def _changed(folder: str) -> int:
    """Time of the last change of a folder's entries in ns; -1 if the folder is gone."""
    try:
        return os.stat(folder).st_mtime_ns
    except FileNotFoundError:
        return -1


def _contents(top: Path) -> tuple[dict[str, int], ImageFolderContents]:
    looked_into: dict[str, int] = {}
    folders = split_folders(top)
    train = class_names(folders["train"])
    number_of = {name: number for number, name in enumerate(train)}
    splits = dict.fromkeys(SPLITS, Listing([], []))
    left_out: Counter[str] = Counter()
    unlabelled: list[str] = []
    remarks = [f"the classes {quoted(names)} differ by case only" for names in same_but_for_case(train)]
    for folder in {top, *folders.values()}:
        looked_into[str(folder)] = _changed(str(folder))
        loose = (entry for entry in entries(folder) if not entry.is_dir())
        unlabelled += [os.path.relpath(entry.path, top) for entry in loose if why_no_image(entry) is None]
    for split, folder in folders.items():
        found, matched = (train, []) if split == "train" else match_classes(folder, folders["train"], train)
        remarks += matched
        pairs: list[tuple[str, int]] = []
        empty: list[str] = []
        for name, path in found.items():
            images: list[str] = []
            for where, files in walk(path):
                looked_into[where] = _changed(where)
                for file in files:
                    reason = why_no_image(file)
                    if reason is None:
                        images.append(os.path.relpath(file.path, top))
                    else:
                        left_out[reason] += 1
            pairs += [(image, number_of[name]) for image in images]
            if not images:
                empty.append(name)
        if not found:
            raise DataError(f"{folder}: has no folder of a class")
        if empty and split == "train":
            raise DataError(
                f"{folder}: has no image of {quoted(empty)}{_files(left_out)}; put some there, or remove the folder"
            )
        if not pairs:
            raise DataError(f"{folder}: has no image{_files(left_out)}")
        missing = [name for name in train if name not in found or name in empty]
        if missing:
            remarks.append(f"{folder.name}/ has no image of {quoted(missing)}")
        if split == "train":
            pairs.sort(key=lambda pair: hashlib.sha256(_name(pair[0])).digest())
        splits[split] = Listing([path for path, _ in pairs], [label for _, label in pairs])
    called = {split: "" if folder == top else folder.name for split, folder in folders.items()}
    contents = ImageFolderContents(list(train), splits, called, left_out, sorted(unlabelled), remarks, {})
    return looked_into, contents


def _name(path: str) -> bytes:
    """The bytes of a path, the same on every system."""
    return os.fsencode(unicodedata.normalize("NFC", path))


def _files(left_out: Counter[str]) -> str:
    return f" (only files {list_left_out(left_out)})" if left_out else ""


def list_left_out(left_out: Counter[str]) -> str:
    """Text such as `12 .txt, 1 hidden`: at most eight kinds, the commonest first."""
    shown = [f"{count} {kind}" for kind, count in left_out.most_common(8)]
    rest = sum(left_out.values()) - sum(count for _, count in left_out.most_common(8))
    return ", ".join(shown) + (f", {rest} others" if rest else "")


def _readable(top: Path, contents: ImageFolderContents, workers: int | None) -> ImageFolderContents:
    """The contents without unreadable images, as if they were removed."""
    every = [path for listing in contents.splits.values() for path in listing.paths]
    from slnlab.image_folder.check import problems  # imports numpy and Pillow

    bad = problems(top, file_hashes(top, every, fresh=False), workers)
    splits = {split: _without(listing, bad) for split, listing in contents.splits.items()}
    for split, folder in contents.folders.items():
        classes = range(len(contents.classes)) if split == "train" else set(contents.splits[split].labels)
        lost = [contents.classes[label] for label in sorted(set(classes) - set(splits[split].labels))]
        if lost:
            raise DataError(f"{top / folder}: no image of {quoted(lost)} can be read ({next(iter(bad.values()))})")
    return contents._replace(splits=splits, unreadable=bad)


def _without(listing: Listing, paths: Collection[str]) -> Listing:
    left = [(path, label) for path, label in zip(*listing, strict=True) if path not in paths]
    return Listing([path for path, _ in left], [label for _, label in left])
