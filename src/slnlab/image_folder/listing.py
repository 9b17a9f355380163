"""The contents of an image folder with one folder for each class.

The configuration takes the numbers of classes and images from here, so it can be checked before torch is imported. No
image is decoded.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from slnlab.errors import ConfigError, DataError
from slnlab.image_folder.contents import ImageFolderContents, Listing, mixed
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
from slnlab.image_folder.listed import corrected, read_image_list
from slnlab.storage.hashes import file_hashes
from slnlab.text.messages import quoted

if TYPE_CHECKING:
    from slnlab.image_folder.votes import Votes

Unreadable = Literal["refuse", "skip"]
"""The treatment of unreadable images: the run ends before training, or leaves them out."""


_read: dict[tuple[str, Unreadable, str | None, str], tuple[dict[str, int], ImageFolderContents]] = {}
"""(root, unreadable, labels, votes) → times of change of folders and CSV files, and contents. Composing asks often."""


def read_image_folder(
    root: str,
    unreadable: Unreadable = "refuse",
    workers: int | None = None,
    labels: str | None = None,
    votes: Votes = "majority",
) -> ImageFolderContents:
    """List `root/train/<class>/` with `val/` and `test/` beside it, or `root/<class>/`, or the rows of a CSV file.

    Classes have numbers in the order of their names, as in torchvision's ImageFolder. A class's folder may hold further
    folders. Names with a leading dot are left out. The order of the training images mixes the classes and depends on
    their names alone, so the first n are a sample.

    Args:
        root: the folder, or a CSV file (`slnlab.image_folder.listed.read_image_list`). Without `train/` all images of
            a folder are for training. `slnlab.image_folder.layout.SPLITS` has the other names of the splits.
        unreadable: "skip" decodes every image (`slnlab.image_folder.check`) and leaves unreadable ones out.
        workers: threads that decode; None uses all cores.
        labels: CSV file that overrides training labels (`slnlab.image_folder.listed.corrected`); None: no file.
        votes: what the given label of an image with several annotators is.

    Raises:
        ConfigError: `unreadable` has another value.
        DataError: the folder is missing or unreadable; it has a link to a folder around it, folders that only look like
            splits, no classes, a class without images, or a class in `val` or `test` only.
    """
    if unreadable not in get_args(Unreadable):
        raise ConfigError(f"data.unreadable: {unreadable!r} is not allowed: refuse or skip")
    top = Path(root).expanduser()
    if not root or not (top.is_dir() or top.suffix == ".csv"):
        raise DataError(f"data.source.root: {root!r} is no folder, and no .csv file")
    key = (root, unreadable, labels, votes)
    known = _read.get(key)
    if known is None or any(_changed(path) != when for path, when in known[0].items()):
        looked_into, found = ({str(top): _changed(str(top))}, read_image_list(top)) if top.is_file() else _contents(top)
        if unreadable == "skip":
            found = _readable(found, workers)
        if votes == "dawid_skene" and found.answers:
            found = _by_dawid_skene(found)
        if labels is not None:
            file = Path(labels).expanduser()
            looked_into[str(file)] = _changed(str(file))
            found = corrected(found, file)
        known = _read[key] = (looked_into, found)
    return known[1]


def _by_dawid_skene(contents: ImageFolderContents) -> ImageFolderContents:
    from slnlab.image_folder.votes import dawid_skene  # with numpy, which other folders do without

    label_of = dawid_skene(contents.answers or {}, len(contents.classes))
    paths = contents.splits["train"].paths
    train = Listing(paths, [label_of[path] for path in paths])
    return contents._replace(splits=contents.splits | {"train": train})


def _changed(folder: str) -> int:
    """Time of the last change of a folder's entries in ns; -1 if the folder is gone."""
    try:
        return os.stat(folder).st_mtime_ns
    except FileNotFoundError:
        return -1


def _contents(top: Path) -> tuple[dict[str, int], ImageFolderContents]:
    """The contents, and the time of the last change of each folder that was looked into."""
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
        images = {name: _images(path, top, looked_into, left_out) for name, path in found.items()}
        empty = [name for name, paths in images.items() if not paths]
        _check_images(folder, images, empty if split == "train" else [], left_out)
        remarks += matched
        if missing := [name for name in train if name not in found or name in empty]:
            remarks.append(f"{folder.name}/ has no image of {quoted(missing)}")
        pairs = [(path, number_of[name]) for name, paths in images.items() for path in paths]
        listed = Listing([path for path, _ in pairs], [label for _, label in pairs])
        splits[split] = mixed(pairs) if split == "train" else listed
    called = {split: "" if folder == top else folder.name for split, folder in folders.items()}
    contents = ImageFolderContents(top, list(train), splits, called, left_out, sorted(unlabelled), remarks, {})
    return looked_into, contents


def _images(folder: Path, top: Path, looked_into: dict[str, int], left_out: Counter[str]) -> list[str]:
    """The images of a class, relative to `top`. Adds to the folders looked into, and to the files left out."""
    images: list[str] = []
    for where, files in walk(folder):
        looked_into[where] = _changed(where)
        for file in files:
            reason = why_no_image(file)
            if reason is None:
                images.append(os.path.relpath(file.path, top))
            else:
                left_out[reason] += 1
    return images


def _check_images(folder: Path, images: dict[str, list[str]], empty: list[str], left_out: Counter[str]) -> None:
    """Refuse a split without classes or images, or with `empty` classes."""
    if not images:
        raise DataError(f"{folder}: has no folder of a class")
    if empty:
        raise DataError(
            f"{folder}: has no image of {quoted(empty)}{_files(left_out)}; put some there, or remove the folder"
        )
    if not any(images.values()):
        raise DataError(f"{folder}: has no image{_files(left_out)}")


def _files(left_out: Counter[str]) -> str:
    return f" (only files {list_left_out(left_out)})" if left_out else ""


def list_left_out(left_out: Counter[str]) -> str:
    """Text such as `12 .txt, 1 hidden`: at most eight kinds, the commonest first."""
    shown = [f"{count} {kind}" for kind, count in left_out.most_common(8)]
    rest = sum(left_out.values()) - sum(count for _, count in left_out.most_common(8))
    return ", ".join(shown) + (f", {rest} others" if rest else "")


def _readable(contents: ImageFolderContents, workers: int | None) -> ImageFolderContents:
    """The contents without unreadable images, as if they were removed."""
    top = contents.top
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
