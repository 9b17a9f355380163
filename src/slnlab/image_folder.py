"""What is in a folder of images with one folder for each class, by names alone: no image is opened, torch not imported.

The configuration takes from here the number of classes and of images, so that it can be checked before torch is loaded.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from slnlab.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Of the files that count as images, in either case: torchvision's."""

SPLITS = {"train": "train", "val_clean": "val", "test": "test"}
"""The folder of each split."""


class Listing(NamedTuple):
    """The images of a split: paths relative to the root, and the number of each one's class among `classes`."""

    paths: list[str]
    labels: list[int]


class ImageFolderContents(NamedTuple):
    """What a root holds; `val_clean` and `test` are empty where it has no such folder."""

    classes: list[str]
    splits: dict[str, Listing]


_read: dict[str, tuple[dict[str, int], ImageFolderContents]] = {}
"""Of each root when its folders were last changed, and what it held: composing one run asks for it dozens of times."""


def read_image_folder(root: str) -> ImageFolderContents:
    """Look into `root/train/<class>/`, and into `val/` and `test/` beside it; or into `root/<class>/`.

    Classes are numbered in the order of their names, as torchvision's ImageFolder does; images may lie in folders of
    their class's folder. What begins with a dot is left out. Training images are in an order that mixes the classes and
    depends on their names alone, so that the first n of them are a sample.

    Args:
        root: the folder. Without `train/` all that it holds is for training.

    Raises:
        DataError: no such folder, one that cannot be read, a link back to a folder that it lies in, no classes, a class
            without images, or one that only `val` or `test` has.
    """
    top = Path(root).expanduser()
    if not root or not top.is_dir():
        raise DataError(f"data.source.root: {root!r} is no folder")
    folders = {split: top / name for split, name in SPLITS.items()}
    if not folders["train"].is_dir():
        for split in ("val_clean", "test"):
            if folders[split].is_dir():
                raise DataError(f"data.source.root: {root} has {SPLITS[split]}/ but no train/")
        folders = {"train": top}
    known = _read.get(root)
    if known is None or any(_changed(folder) != when for folder, when in known[0].items()):
        known = _read[root] = _contents(top, {split: folder for split, folder in folders.items() if folder.is_dir()})
    return known[1]


def _changed(folder: str) -> int:
    """When something came into a folder or left it, in ns; -1: it is gone."""
    try:
        return os.stat(folder).st_mtime_ns
    except FileNotFoundError:
        return -1


def _contents(top: Path, folders: dict[str, Path]) -> tuple[dict[str, int], ImageFolderContents]:
    looked_into = {str(folder): _changed(str(folder)) for folder in (top, *folders.values())}
    classes = [path.name for path in _folders(folders["train"])]
    if len(classes) < 2:
        raise DataError(f"{folders['train']}: wants a folder for each class, at least 2, and has {len(classes)}")
    number_of = {name: number for number, name in enumerate(classes)}
    splits = dict.fromkeys(SPLITS, Listing([], []))
    for split, folder in folders.items():
        pairs: list[tuple[str, int]] = []
        for path in _folders(folder):
            if path.name not in number_of:
                raise DataError(f"{path}: is no class of {folders['train']}, which has {', '.join(classes)}")
            images = []
            for where, names in _walk(path, ()):
                looked_into[where] = _changed(where)
                inside = os.path.relpath(where, top)
                images += [os.path.join(inside, name) for name in names]
            if not images:
                raise DataError(f"{path}: has no image; they end in {', '.join(SUFFIXES)}")
            label = number_of[path.name]
            pairs += [(image, label) for image in images]
        if not pairs:
            raise DataError(f"{folder}: has no folder of a class")
        if split == "train":
            pairs.sort(key=lambda pair: hashlib.sha256(os.fsencode(pair[0])).digest())
        splits[split] = Listing([path for path, _ in pairs], [label for _, label in pairs])
    return looked_into, ImageFolderContents(classes, splits)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _walk(folder: str | Path, above: tuple[str, ...]) -> Iterator[tuple[str, list[str]]]:
    """Pairs of a folder, this one and those below it, and the images in it; links are followed."""
    here = os.path.realpath(folder)
    if here in above:
        raise DataError(f"{folder}: is a link back to {here}, which it lies in")
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}") from error
    shown = [entry for entry in entries if not entry.name.startswith(".")]
    yield str(folder), [entry.name for entry in shown if entry.name.lower().endswith(SUFFIXES) and not entry.is_dir()]
    for entry in shown:
        if entry.is_dir():
            yield from _walk(entry.path, (*above, here))
