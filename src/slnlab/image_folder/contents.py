"""The contents of a data set of image files."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple


class Listing(NamedTuple):
    """The images of a split: paths relative to the root, and labels as numbers of `classes`."""

    paths: list[str]
    labels: list[int]


class ImageFolderContents(NamedTuple):
    """The contents of a root. `val_clean` and `test` are empty without such images."""

    top: Path
    """The folder that paths are relative to."""
    classes: list[str]
    splits: dict[str, Listing]
    folders: dict[str, str]
    """Split → its name: that of its folder, or empty if it is the root."""
    left_out: Counter[str]
    """Numbers of files that are no images, by suffix or reason."""
    unlabelled: list[str]
    """Images outside the folders of the classes, relative to the root."""
    remarks: list[str]
    """Remarks on names and labels."""
    unreadable: dict[str, str]
    """Path → fault of the images that `unreadable="skip"` leaves out."""
    true: dict[str, int] | None = None
    """Training image → true label, where a list of images states it; None: unknown."""
    corrections: dict[str, tuple[int, int | None]] | None = None
    """Training image → its labels before and after `data.labels`, for the changed images alone; the second label is
    None for an image left out. None: without such a file."""
    weights: dict[str, float] | None = None
    """Training image → its weight in [0, 1], where a list of images or `data.labels` states another than 1."""
    stated: frozenset[str] = frozenset()
    """Training images with a row in `data.labels`, changed or not."""
    answers: dict[str, dict[str, int]] | None = None
    """Training image → person → class number, where a list of images names annotators; other labels are left out."""
    lines: dict[str, int] | None = None
    """Image → its first line in the list of images, from 1; None: there is no list."""


def mixed(pairs: Iterable[tuple[str, int]]) -> Listing:
    """The training images in an order that mixes the classes and depends on the paths alone."""
    ordered = sorted(pairs, key=lambda pair: hashlib.sha256(_name(pair[0])).digest())
    return Listing([path for path, _ in ordered], [label for _, label in ordered])


def _name(path: str) -> bytes:
    """The bytes of a path, the same on every system."""
    return os.fsencode(unicodedata.normalize("NFC", path))
