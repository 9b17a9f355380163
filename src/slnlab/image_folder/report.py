"""The report on an image folder before training: numbers, files left out, unreadable images, copies."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from slnlab.errors import DataError
from slnlab.image_folder.check import verdicts
from slnlab.image_folder.contents import ImageFolderContents
from slnlab.image_folder.listing import list_left_out
from slnlab.image_folder.survey import check_depths
from slnlab.storage.hashes import file_hashes
from slnlab.storage.tables import csv_bytes
from slnlab.storage.writing import replacing
from slnlab.text.messages import quoted

log = logging.getLogger(__name__)

TINY = 10
"""Training images below which a class gets a warning: too few to learn it, or to find its wrong labels."""

SHOWN = 5
"""Files that a message names. A file in the run's directory lists all."""


class Copies(NamedTuple):
    """Images with byte-identical files."""

    kind: str
    """`several splits`, `several classes` or `same class`."""
    paths: list[str]


def report(
    root: str,
    contents: ImageFolderContents,
    workers: int | None,
    unreadable_file: Path,
    duplicates_file: Path,
    mixed_depths: bool = False,
) -> None:
    """Log the contents of a folder, and refuse unusable ones.

    Args:
        root: the folder, or the CSV file, for messages.
        contents: its contents.
        workers: threads that decode; None uses all cores.
        unreadable_file: CSV file with the path and fault of every unreadable image; removed if there is none.
        duplicates_file: CSV file with all copies; removed if there are none.
        mixed_depths: True allows images of 8 bits beside deep ones, because a range is given.

    Raises:
        DataError: images are unreadable and not skipped, all in one message, or have different depths.
    """
    every = [path for listing in contents.splits.values() for path in listing.paths]
    hashes = file_hashes(contents.top, every, fresh=True)
    found = verdicts(contents.top, hashes, workers)
    bad = contents.unreadable | {path: judged.problem for path, judged in found.items() if judged.problem is not None}
    _write(unreadable_file, ["path", "problem"], sorted(bad.items()))
    if bad:
        shown = "\n  ".join(f"{path!r}: {problem}" for path, problem in sorted(bad.items())[:SHOWN])
        more = f"\n  and {len(bad) - SHOWN} more; all are in {unreadable_file}" if len(bad) > SHOWN else ""
        counted = f"{root}: {len(bad)} of {len(every) + len(contents.unreadable)} images cannot be read"
        if len(contents.unreadable) < len(bad):
            raise DataError(f"{counted}. Remove them, or leave them out with data.unreadable=skip\n  {shown}{more}")
        log.warning("%s and are left out:\n  %s%s", counted, shown, more)
    if not mixed_depths:
        check_depths(
            {verdict.depth: contents.top / path for path, verdict in found.items() if verdict.depth is not None}
        )
    log.info("%s: %s", root, _counted(contents))
    for remark in _remarks(contents):
        log.warning("%s: %s", root, remark)
    copies = list(find_copies(contents, hashes))
    label = _labels(contents)
    rows = [
        [number, group.kind, label[path][0], label[path][1], path]
        for number, group in enumerate(copies, start=1)
        for path in group.paths
    ]
    _write(duplicates_file, ["group", "kind", "split", "label", "path"], rows)
    for remark in _copy_remarks(contents, copies, label):
        log.warning("%s: %s; %s lists them", root, remark, duplicates_file)


def _counted(contents: ImageFolderContents) -> str:
    """Text such as `3 classes; train 240 images (70 to 90 of a class), test 60`."""
    sizes = Counter(contents.splits["train"].labels).values()
    parts = [f"train {len(contents.splits['train'].paths)} images ({min(sizes)} to {max(sizes)} of a class)"]
    for split in ("val_clean", "test"):
        count = len(contents.splits[split].paths)
        parts.append(f"{contents.folders[split]} {count}" if count else f"no {split.removesuffix('_clean')}")
    return f"{len(contents.classes)} classes; {', '.join(parts)}"


def _remarks(contents: ImageFolderContents) -> Iterator[str]:
    if contents.left_out:
        yield f"files left out, as they are no images: {list_left_out(contents.left_out)}"
    if contents.unlabelled:
        count = len(contents.unlabelled)
        yield f"{count} image(s) outside the folders of the classes are left out: {quoted(contents.unlabelled, SHOWN)}"
    yield from contents.remarks
    sizes = Counter(contents.splits["train"].labels)
    tiny = [(contents.classes[label], count) for label, count in sorted(sizes.items()) if count < TINY]
    if tiny:
        names = quoted([name for name, _ in tiny])
        yield f"fewer than {TINY} training images (the fewest: {min(count for _, count in tiny)}) in {names}"


def find_copies(contents: ImageFolderContents, hashes: dict[str, str]) -> Iterator[Copies]:
    """Groups of images with the same content. Groups that spoil a result come first.

    Args:
        contents: contents of the folder.
        hashes: path → hash of the file.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for path, content in hashes.items():
        groups[content].append(path)
    label = _labels(contents)
    found = []
    for paths in groups.values():
        if len(paths) > 1:
            splits = [split for split in contents.splits if any(label[path][0] == split for path in paths)]
            classes = {label[path][1] for path in paths}
            kind = "several splits" if len(splits) > 1 else "several classes" if len(classes) > 1 else "same class"
            found.append(Copies(kind, sorted(paths, key=lambda path: (label[path][0] != "train", path))))
    order = ("several splits", "several classes", "same class")
    yield from sorted(found, key=lambda group: (order.index(group.kind), group.paths))


def _labels(contents: ImageFolderContents) -> dict[str, tuple[str, str]]:
    """Path → (split, class)."""
    return {
        path: (split, contents.classes[label])
        for split, listing in contents.splits.items()
        for path, label in zip(*listing, strict=True)
    }


def _copy_remarks(
    contents: ImageFolderContents, copies: Sequence[Copies], label: dict[str, tuple[str, str]]
) -> Iterator[str]:
    def names(split: str) -> str:
        return contents.folders[split] or "train"

    for split, other in (("test", "train"), ("val_clean", "train"), ("test", "val_clean")):
        shared = [g for g in copies if {split, other} <= {label[path][0] for path in g.paths}]
        if shared:
            count = sum(label[path][0] == split for group in shared for path in group.paths)
            wrong = "the accuracy there is too high" if other == "train" else "the choice favours them"
            yield (
                f"{count} of {len(contents.splits[split].paths)} images of {names(split)}/ are copies of images of "
                f"{names(other)}/, so {wrong} ({_example(shared[0], label, split, other)})"
            )
    several = [g for g in copies if len({label[path][1] for path in g.paths}) > 1]
    if several:
        of_class: dict[str, str] = {}
        for path in several[0].paths:
            of_class.setdefault(label[path][1], path)
        yield (
            f"{len(several)} image(s) lie in several classes, and at most one is right "
            f"({', '.join(map(repr, of_class.values()))})"
        )
    same = [g for g in copies if g.kind == "same class"]
    if same:
        count = sum(len(group.paths) - 1 for group in same)
        yield f"{count} image(s) are copies of others of their class ({', '.join(map(repr, same[0].paths[:2]))})"


def _example(group: Copies, label: dict[str, tuple[str, str]], *splits: str) -> str:
    return ", ".join(repr(next(path for path in group.paths if label[path][0] == split)) for split in splits)


def _write(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a CSV file, or remove it if there are no rows."""
    if not rows:
        path.unlink(missing_ok=True)
        return
    with replacing(path) as file:
        file.write(csv_bytes([header, *rows]))
