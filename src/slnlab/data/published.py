"""Published data sets of image files: their layout, their lists, and one message for all that is missing."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from slnlab.data.decoding import Paths
from slnlab.data.streamed import LabelledPaths
from slnlab.errors import DataError
from slnlab.text.messages import quoted

Missing = Literal["refuse", "skip"]
"""The treatment of images that are listed but not there: refuse the run, or leave them out."""


class Published(NamedTuple):
    """The layout of a published data set, and its origin.

    Args:
        title: its name.
        tree: path below the root → its content. A path may name alternatives: `training|train`.
        origin: place and conditions of the data, as a sentence.
    """

    title: str
    tree: Mapping[str, str]
    origin: str

    def find(self, root: Path, name: str) -> Path | None:
        """Return the first existing alternative of a path of `tree`; None: there is none."""
        return next((root / each for each in name.split("|") if (root / each).exists()), None)

    def require(self, root: Path) -> None:
        """Check that the tree is there.

        Raises:
            DataError: a part is missing. The message names every missing part, and the origin.
        """
        missing = [name for name in self.tree if self.find(root, name) is None]
        if missing:
            wanted = "; ".join(f"{name.replace('|', ' or ')} ({self.tree[name]})" for name in missing)
            raise DataError(
                f"data.source.root: {str(root)!r} is no {self.title}: it has no {wanted}. {self.origin} Name the "
                "directory with data.source.root"
            )


def listed(path: Path, columns: int | None = 2) -> list[tuple[int, list[str]]]:
    """Return pairs (line number, words) of a list's lines that are not blank.

    Args:
        path: a UTF-8 text file, perhaps with a byte order mark.
        columns: required number of words, separated by blanks; None: each line is one word with its blanks.

    Raises:
        DataError: the file is missing, unreadable or empty, or a line has another number of words.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise DataError(f"{path}: is empty")
    found = [(number, [line] if columns is None else line.split()) for number, line in lines]
    for number, words in found:
        if columns is not None and len(words) != columns:
            raise DataError(f"{path}: line {number}: must have {columns} columns, has {len(words)}")
    return found


def labelled_lines(path: Path) -> list[tuple[str, int]]:
    """Return the pairs (file, label) of a list with lines such as `google/q0001/x.jpg 0`.

    Raises:
        DataError: see `listed`; or a label is no number.
    """
    pairs = []
    for number, (name, label) in listed(path):
        if not (label.isascii() and label.isdigit()):
            raise DataError(f"{path}: line {number}: the label must be a number, found {label!r}")
        pairs.append((name, int(label)))
    return pairs


def labelled(root: Path, pairs: Iterable[tuple[str, int]]) -> LabelledPaths:
    """Return pairs (path below the root, label) as a split."""
    every = list(pairs)
    labels = torch.tensor([label for _, label in every], dtype=torch.int64)
    return LabelledPaths(Paths(root, [path for path, _ in every]), labels)


def absent(root: Path, paths: Iterable[str]) -> set[str]:
    """Return the paths without a file. Each folder is read once: a million `stat` calls take minutes."""
    by_folder: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        by_folder[os.path.dirname(path)].append(path)
    missing: set[str] = set()
    for folder, inside in by_folder.items():
        try:
            there = set(os.listdir(root / folder))
        except OSError:
            there = set()
        missing |= {path for path in inside if os.path.basename(path) not in there}
    return missing


def present(root: Path, pairs: list[tuple[str, int]], missing: Missing, key: str | None) -> list[tuple[str, int]]:
    """Return the pairs (path below the root, label) whose files are there.

    Args:
        root: the folder of the paths.
        pairs: all that a list names.
        missing: treatment of absent images.
        key: key of the configuration with the expected number of images, for the message; None: there is none.

    Raises:
        DataError: images are absent and not skipped, or all are.
    """
    gone = absent(root, [path for path, _ in pairs])
    left = [pair for pair in pairs if pair[0] not in gone]
    if gone and (missing == "refuse" or not left):
        remedy = "data.source.missing=skip" + (f" {key}={len(left)}" if key else "")
        raise DataError(
            f"{root}: {len(gone):,} of {len(pairs):,} listed images are missing, such as {quoted(sorted(gone), 2)}; "
            f"get them, or leave them out with {remedy}"
        )
    return left
