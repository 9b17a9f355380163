"""What a folder of images holds, said once before training: what was left out, what is damaged, what is double."""

from __future__ import annotations

import csv
import io
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from slnlab.errors import DataError
from slnlab.image_folder.check import looks
from slnlab.image_folder.listing import ImageFolderContents, list_left_out
from slnlab.image_folder.survey import check_depths
from slnlab.storage.hashes import file_hashes
from slnlab.storage.writing import replacing
from slnlab.text.messages import quoted

log = logging.getLogger(__name__)

TINY = 10
"""Training images below which a class is named: too few to learn it from, or to tell a wrong label from a rare look."""

SHOWN = 5
"""Files that a message names; all are in a file of the run's directory."""


class Copies(NamedTuple):
    """Images whose files are the same byte by byte, and what follows from where they lie."""

    kind: str
    """`test in train`, …, `several classes`, or `same class`."""
    paths: list[str]


def report(
    root: str,
    contents: ImageFolderContents,
    workers: int | None,
    unreadable_file: Path,
    duplicates_file: Path,
    mixed_depths: bool = False,
) -> None:
    """Say what is there, and refuse what cannot be trained on.

    Args:
        root: the folder.
        contents: of it.
        workers: processes that look at the images; None: as many as CPUs.
        unreadable_file: written with every image that cannot be read, and why; removed if there is none.
        duplicates_file: written with all copies; likewise.
        mixed_depths: images of 8 bits and of more may lie side by side, as the range of the latter was given.

    Raises:
        DataError: images that cannot be read and are not to be skipped, all in one message, or of different depths.
    """
    every = [path for listing in contents.splits.values() for path in listing.paths]
    hashes = file_hashes(Path(root), every, fresh=True)
    found = looks(Path(root), hashes, workers)
    bad = contents.unreadable | {path: look.problem for path, look in found.items() if look.problem is not None}
    _write(unreadable_file, ["path", "problem"], sorted(bad.items()))
    if bad:
        shown = "\n  ".join(f"{path!r}: {problem}" for path, problem in sorted(bad.items())[:SHOWN])
        more = f"\n  and {len(bad) - SHOWN} more; all are in {unreadable_file}" if len(bad) > SHOWN else ""
        counted = f"{root}: {len(bad)} of {len(every) + len(contents.unreadable)} images cannot be read"
        if len(contents.unreadable) < len(bad):
            raise DataError(f"{counted}. Remove them, or leave them out with data.unreadable=skip\n  {shown}{more}")
        log.warning("%s and are left out:\n  %s%s", counted, shown, more)
    if not mixed_depths:
        check_depths({look.depth: Path(root, path) for path, look in found.items() if look.depth is not None})
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
    for remark in _of_copies(contents, copies, label):
        log.warning("%s: %s; %s lists them", root, remark, duplicates_file)


def _counted(contents: ImageFolderContents) -> str:
    """`3 classes; train 240 images (70 to 90 of a class), test 60`."""
    sizes = Counter(contents.splits["train"].labels).values()
    parts = [f"train {len(contents.splits['train'].paths)} images ({min(sizes)} to {max(sizes)} of a class)"]
    for split in ("val_clean", "test"):
        count = len(contents.splits[split].paths)
        parts.append(f"{contents.folders[split]} {count}" if count else f"no {split.removesuffix('_clean')}")
    return f"{len(contents.classes)} classes; {', '.join(parts)}"


def _remarks(contents: ImageFolderContents) -> Iterator[str]:
    if contents.left_out:
        yield f"files that are left out as no images: {list_left_out(contents.left_out)}"
    if contents.unlabelled:
        count = len(contents.unlabelled)
        yield f"{count} image(s) in no folder of a class are left out: {quoted(contents.unlabelled, SHOWN)}"
    yield from contents.remarks
    sizes = Counter(contents.splits["train"].labels)
    tiny = [(contents.classes[label], count) for label, count in sorted(sizes.items()) if count < TINY]
    if tiny:
        names = quoted([name for name, _ in tiny])
        yield f"fewer than {TINY} training images (the fewest: {min(count for _, count in tiny)}) has the class {names}"


def find_copies(contents: ImageFolderContents, hashes: dict[str, str]) -> Iterator[Copies]:
    """Groups of images with one content, those first that spoil a result.

    Args:
        contents: of the folder.
        hashes: of each image's file.
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
    """Of each image its split and its class."""
    return {
        path: (split, contents.classes[label])
        for split, listing in contents.splits.items()
        for path, label in zip(*listing, strict=True)
    }


def _of_copies(
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
        yield (
            f"{len(several)} image(s) lie in several classes, of which at most one is right "
            f"({', '.join(map(repr, several[0].paths[:2]))})"
        )
    same = [g for g in copies if g.kind == "same class"]
    if same:
        count = sum(len(group.paths) - 1 for group in same)
        yield f"{count} image(s) are copies of others of their class ({', '.join(map(repr, same[0].paths[:2]))})"


def _example(group: Copies, label: dict[str, tuple[str, str]], *splits: str) -> str:
    return ", ".join(repr(next(path for path in group.paths if label[path][0] == split)) for split in splits)


def _write(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A CSV file, or none if there is nothing to say."""
    if not rows:
        path.unlink(missing_ok=True)
        return
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    with replacing(path) as file:
        file.write(os.fsencode(text.getvalue()))  # a file's name need not be UTF-8
