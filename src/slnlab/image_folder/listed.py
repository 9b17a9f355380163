"""Labels of images in a CSV file: a list of all images, or corrections of a folder's labels."""

from __future__ import annotations

import math
import os
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Literal, NamedTuple

from slnlab.errors import DataError
from slnlab.image_folder.contents import ImageFolderContents, Listing, mixed
from slnlab.image_folder.layout import SPLITS, alike
from slnlab.storage.tables import finder, plain_path, records
from slnlab.text.messages import quoted

COLUMNS = ("path", "label", "split", "true_label", "annotator", "weight")
"""Columns of a list of images; the first two are needed."""


class _Image(NamedTuple):
    """An image of a list: its first line, split, true label and weight, and its labels by annotator."""

    line: int
    split: str
    true: str
    weight: float
    votes: dict[str, str]


def read_image_list(file: Path) -> ImageFolderContents:
    """Read a CSV file with a row for each image: `path,label`, perhaps `split`, `true_label`, `annotator`, `weight`.

    Paths are relative to the file's folder. Without `split` all images are for training. With `annotator` an image may
    have a row for each of several people; its given label is that of most of them, of equals the first listed. The
    classes are the training labels, in the order of their names, or of their values if all are integers. Labels of
    validation and test images count as true; with `true_label` that column does. A weight lies in [0, 1]; an empty one
    is 1.

    Raises:
        DataError: a column or a file is missing, a row is faulty, or a class has no training image. The message names
            the file and the line.
    """
    header, rows = records(file, COLUMNS[:2])
    images: dict[str, _Image] = {}
    files = _Files(file.parent)
    for line, row in rows:
        _add(file, line, row, images, files)
    remarks = []
    others = [name for name in header if name not in COLUMNS]
    if others:
        remarks.append(f"the columns {quoted(others)} are not used")
    ties = sum(len(_winners(image.votes)) > 1 for image in images.values())
    if ties:
        remarks.append(
            f"{ties} image(s) have several labels with equally many votes; by majority the first listed counts"
        )
    _check_files(file, images, files)
    classes = _classes(file, images)
    number_of = {name: number for number, name in enumerate(classes)}
    pairs: dict[str, list[tuple[str, int]]] = {split: [] for split in SPLITS}
    true: dict[str, int] = {}
    for path, image in images.items():
        label = _winners(image.votes)[0] if image.split == "train" or not image.true else image.true
        for name in (label, image.true or label):
            if name not in number_of:
                raise DataError(
                    f"{file}: line {image.line}: no training image has the label {name!r}; their {len(classes)} "
                    f"classes are {quoted(classes)}"
                )
        pairs[image.split].append((path, number_of[label]))
        if image.split == "train" and image.true:
            true[path] = number_of[image.true]
    splits = {
        split: Listing([path for path, _ in found], [label for _, label in found]) for split, found in pairs.items()
    }
    splits["train"] = mixed(pairs["train"])
    for split, found in splits.items():
        present = set(found.labels)
        lacking = [name for name in classes if number_of[name] not in present]
        if found.paths and lacking:
            remarks.append(f"{SPLITS[split][0]} has no image of {quoted(lacking)}")
    folders = {split: SPLITS[split][0] for split, found in splits.items() if found.paths}
    known = true if "true_label" in header else None
    weights = {path: images[path].weight for path in splits["train"].paths if images[path].weight != 1}
    answers = None
    if "annotator" in header:
        votes = {path: images[path].votes.items() for path in splits["train"].paths}
        answers = {
            path: {who: number_of[name] for who, name in each if name in number_of} for path, each in votes.items()
        }
    lines = {path: image.line for path, image in images.items()}
    return ImageFolderContents(
        *(file.parent, classes, splits, folders, Counter(), [], remarks, {}, known),
        weights=weights,
        answers=answers,
        lines=lines,
    )


def _add(file: Path, line: int, row: dict[str, str], images: dict[str, _Image], files: _Files) -> None:
    """Add a row to the images.

    Raises:
        DataError: the row is faulty, or contradicts an earlier one.
    """
    where = f"{file}: line {line}"
    for name in ("path", "label", "true_label", "annotator"):
        if not row.get(name, "-"):
            raise DataError(f"{where}: the column {name!r} is empty")
    if "${" in row["label"] + row.get("true_label", ""):
        raise DataError(f"{where}: '${{' in the name of a class would be read as a reference; rename it")
    path, label = _on_disk(files, row["path"]), _label(row["label"])
    word = row.get("split", "train")
    split = next((name for name, words in SPLITS.items() if alike(word) in words), None)
    if split is None:
        raise DataError(
            f"{where}: the split {word!r} is not allowed: {', '.join(words[0] for words in SPLITS.values())}"
        )
    true, annotator = _label(row.get("true_label", "")), row.get("annotator", "")
    weight = _weight(where, row.get("weight", ""))
    image = images.setdefault(path, _Image(line, split, true, weight, {}))
    if annotator in image.votes:
        by = f" by the annotator {annotator!r}" if "annotator" in row else ""
        raise DataError(f"{where}: a second row of {row['path']!r}{by}; the first is line {image.line}")
    if (image.split, image.true, image.weight) != (split, true, weight):
        raise DataError(f"{where}: {row['path']!r} has another split, true_label or weight than in line {image.line}")
    image.votes[annotator] = label


def _label(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _winners(votes: dict[str, str]) -> list[str]:
    """The labels with most votes, in the order of the list."""
    counts = Counter(votes.values())
    return [label for label, count in counts.items() if count == max(counts.values())]


class _Files:
    """The files below a folder. A list may have a million rows, so each of its folders is read once."""

    def __init__(self, top: Path) -> None:
        self.top = os.fspath(top)
        self._names: dict[str, set[str]] = {}

    def __contains__(self, path: str) -> bool:
        folder, name = os.path.split(path)
        if folder not in self._names:
            try:
                with os.scandir(os.path.join(self.top, folder)) as entries:
                    self._names[folder] = {entry.name for entry in entries if entry.is_file()}
            except OSError:
                self._names[folder] = set()
        return name in self._names[folder]


def _on_disk(files: _Files, text: str) -> str:
    """A path relative to a folder, in the encoding of accents that the file system has."""
    path = plain_path(os.path.relpath(text, files.top) if os.path.isabs(text) else text)
    if path in files:
        return path
    return next((form for form in (unicodedata.normalize("NFD", path), text) if form in files), path)


def _check_files(file: Path, images: dict[str, _Image], files: _Files) -> None:
    missing = [path for path in images if path not in files]
    if missing:
        first = missing[0]
        raise DataError(
            f"{file}: line {images[first].line}: there is no file {first!r} in {file.parent}, the folder of the list"
            + (f"; {len(missing)} of {len(images)} files are missing" if len(missing) > 1 else "")
        )


def _classes(file: Path, images: dict[str, _Image]) -> list[str]:
    training = [image for image in images.values() if image.split == "train"]
    found = {name for image in training for name in (_winners(image.votes)[0], image.true) if name}
    if len(found) < 2:
        raise DataError(
            f"{file}: the training images have {len(found)} class(es) ({quoted(found)}); at least 2 are needed"
        )
    integers = all(name.removeprefix("-").isdecimal() for name in found)
    return sorted(found, key=(lambda name: (int(name), name)) if integers else None)


def corrected(
    contents: ImageFolderContents, file: Path, place: Literal["path", "index"] = "path"
) -> ImageFolderContents:
    """Override labels of training images by a CSV file with `path` and `label`, perhaps `weight`.

    Images without a row keep their labels. An empty label leaves the image out. A weight lies in [0, 1]; an empty one
    is 1. Other columns are ignored.

    Args:
        contents: of the folder or list.
        file: the CSV file.
        place: column that names an image; "index" for samples in memory without names.

    Raises:
        DataError: a column is missing; a row names no training image, one twice, or a class that does not exist; its
            weight is none; or a class would lose its last image. The message names the file and the line.
    """
    header, rows = records(file, (place, "label"))
    paths, labels = contents.splits["train"]
    find = finder([*paths, *contents.unreadable])
    number_of = {name: number for number, name in enumerate(contents.classes)}
    new: dict[str, int | None] = {}
    weights = dict(contents.weights or {})
    for line, row in rows:
        path, label = find(row[place]), _label(row["label"])
        if path is None:
            known = f"paths are relative to {contents.top}" if place == "path" else f"{len(paths)} have an index from 0"
            raise DataError(
                f"{file}: line {line}: {row[place]!r} is no training image; {known}, as in label_issues.csv"
            )
        if path in new:
            raise DataError(f"{file}: line {line}: a second row of {row[place]!r}")
        if label and label not in number_of:
            raise DataError(
                f"{file}: line {line}: there is no class {label!r}; the classes are {quoted(contents.classes)}"
            )
        new[path] = number_of[label] if label else None
        if "weight" in header:
            weights[path] = _weight(f"{file}: line {line}", row["weight"])
    pairs = [(path, new.get(path, label)) for path, label in zip(paths, labels, strict=True)]
    kept = [(path, label) for path, label in pairs if label is not None]
    lost = [contents.classes[number] for number in sorted({*labels} - {label for _, label in kept})]
    if lost:
        raise DataError(f"{file}: leaves no training image of {quoted(lost)}")
    both = ((path, (before, label)) for (path, label), before in zip(pairs, labels, strict=True))
    changes = {path: change for path, change in both if change[0] != change[1]}
    dropped = len(pairs) - len(kept)
    remark = f"{file} changes {len(changes) - dropped} label(s) and leaves out {dropped} image(s)"
    train = Listing([path for path, _ in kept], [label for _, label in kept])
    splits, remarks = contents.splits | {"train": train}, [*contents.remarks, remark]
    return contents._replace(
        splits=splits,
        remarks=remarks,
        corrections=changes,
        weights={path: weights[path] for path, _ in kept if weights.get(path, 1) != 1},
        stated=frozenset(new),
    )


def _weight(where: str, text: str) -> float:
    try:
        weight = float(text or 1)
    except ValueError:
        weight = math.nan
    if not 0 <= weight <= 1:
        raise DataError(f"{where}: the weight {text!r} is no number in [0, 1]")
    return weight
