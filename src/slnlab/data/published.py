"""Published data sets of image files: their layout, their lists, and one message for all that is missing."""

from __future__ import annotations

import logging
import os
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import torch

from slnlab.data.decoding import Paths
from slnlab.data.source import Split
from slnlab.data.streamed import LabelledPaths
from slnlab.errors import DataError
from slnlab.image_folder.contents import mixed
from slnlab.text.messages import quoted

log = logging.getLogger(__name__)

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

    def find(self, root: Path, name: str) -> Path:
        """Return the first existing alternative of a path of `tree`; the first one if there is none."""
        every = [root / each for each in name.split("|")]
        return next((path for path in every if path.exists()), every[0])

    def lacking(self, root: Path) -> list[str]:
        """Return the paths of `tree` that are not there."""
        return [name for name in self.tree if not self.find(root, name).exists()]

    def require(self, root: Path) -> None:
        """Check that the tree is there.

        Raises:
            DataError: a part is missing. The message names every missing part, and the origin.
        """
        missing = self.lacking(root)
        if missing:
            wanted = "; ".join(f"{alternatives(name)} ({self.tree[name]})" for name in missing)
            raise DataError(
                f"data.source.root: {str(root)!r} is no {self.title}: it has no {wanted}. {self.origin} Name the "
                "directory with data.source.root"
            )


def alternatives(name: str) -> str:
    """Return a path of `Published.tree` in words."""
    return name.replace("|", " or ")


def list_lines(path: Path, columns: int | None = 2) -> list[tuple[int, list[str]]]:
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
        DataError: see `list_lines`; or a label is no number.
    """
    pairs = []
    for number, (name, label) in list_lines(path):
        if not (label.isascii() and label.isdigit()):
            raise DataError(f"{path}: line {number}: the label must be a number, found {label!r}")
        pairs.append((name, int(label)))
    return pairs


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


class PublishedFiles(ABC):
    """A published data set of image files, see `slnlab.data.streamed.FileSource`.

    Training images come in an order that mixes the classes and depends on their paths alone, whatever the machine.

    Args:
        root: directory of `about.tree`.
        missing: treatment of listed images that are not there.
    """

    name: ClassVar[str]
    about: ClassVar[Published]
    splits: ClassVar[tuple[Split, ...]] = ("train", "test")

    def __init__(self, root: str, missing: Missing = "refuse") -> None:
        self.root, self.missing = Path(root).expanduser(), missing

    @abstractmethod
    def listed(self, split: Split) -> list[tuple[str, int]]:
        """Return the pairs (path below the root, label) of a split, whether or not the files are there.

        Raises:
            DataError: a list is missing or corrupt.
        """

    def prepare(self) -> None:
        self.about.require(self.root)

    def load(self, split: Split) -> LabelledPaths:
        self.prepare()
        if split not in self.splits:
            raise DataError(f"data.clean_val: {self.about.title} has no clean validation images; data.clean_val=false")
        pairs = self.present(split)
        paths, labels = mixed(pairs) if split == "train" else zip(*pairs, strict=True)
        return LabelledPaths(Paths(self.root, paths), torch.tensor(labels, dtype=torch.int64))

    def present(self, split: Split) -> list[tuple[str, int]]:
        """Return those of `listed` whose files are there.

        Raises:
            DataError: images are absent and not skipped, or there is none.
        """
        pairs = self.listed(split)
        gone = absent(self.root, [path for path, _ in pairs])
        left = [pair for pair in pairs if pair[0] not in gone]
        if gone and (self.missing == "refuse" or not left):
            remedy = "data.source.missing=skip" + (f" data.num_train={len(left)}" if split == "train" else "")
            raise DataError(
                f"{self.root}: {len(gone):,} of {len(pairs):,} listed {split} images are missing, such as "
                f"{quoted(sorted(gone), 2)}; get them, or leave them out with {remedy}"
            )
        if gone:
            log.warning("%s: %d of %d listed %s images are missing", self.root, len(gone), len(pairs), split)
        return left

    def survey(self, splits: Sequence[Split], num_train: int, num_classes: int) -> Iterator[tuple[bool, str]]:
        """Yield what is expected, and what is there: pairs (True if all is well, text).

        Args:
            splits: the splits that a run uses.
            num_train: number of training images that it expects.
            num_classes: number of classes that it expects in each split.
        """
        lacking = self.about.lacking(self.root)
        for name, content in self.about.tree.items():
            yield name not in lacking, f"{alternatives(name)}: {content}" + ("; it is missing" * (name in lacking))
        for split in splits if not lacking else ():
            try:
                pairs = self.listed(split)
            except DataError as error:
                yield False, str(error)
                continue
            gone = absent(self.root, [path for path, _ in pairs])
            sizes = Counter(label for path, label in pairs if path not in gone).values()
            text = f"{split}: {sum(sizes):,} images in {len(sizes)} classes"
            text += f" ({min(sizes):,} to {max(sizes):,} of a class)" if sizes else ""
            if gone:
                text += f"; {len(gone):,} of {len(pairs):,} listed ones are missing, such as {quoted(sorted(gone), 2)}"
            left_out = self.missing == "skip" and len(gone) < len(pairs)
            expected = {"data.num_classes": (len(sizes), num_classes)}
            if split == "train":
                expected["data.num_train"] = (sum(sizes), num_train)
            others = [
                f"; {key}={wanted} expects another number" for key, (n, wanted) in expected.items() if n != wanted
            ]
            yield (left_out or not gone) and not others, text + "".join(others)
