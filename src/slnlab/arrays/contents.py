"""The contents of a file of arrays: its splits, classes and labels, checked before torch is imported.

The names are those of MedMNIST: `train_images`, `train_labels`, `val_images`, `val_labels`, `test_images`,
`test_labels`; feature vectors have `features` in place of `images`. `images` (or `features`) and `labels` alone are
the training set. `train_true_labels` (or `true_labels`) are optional, and so are `train_paths` (or `paths`), the names
of the training samples.
"""

from __future__ import annotations

import json
import logging
import os
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from slnlab.arrays.files import Array, Arrays, open_arrays
from slnlab.errors import ConfigError, DataError
from slnlab.text.messages import quoted

log = logging.getLogger(__name__)

Kind = Literal["images", "features"]

SPLITS = {"train": "train", "val_clean": "val", "test": "test"}
"""Split → prefix of its arrays' names."""

ABOUT = "about"
"""Name of the array of `slnlab.embed` with the origin of the features, as JSON."""

_UNREAD = ("train_paths", "paths", "val_paths", "test_paths", ABOUT)
"""Arrays of `slnlab.embed` beside samples and labels."""


class ArrayContents(NamedTuple):
    """The contents of a file of arrays."""

    classes: list[str]
    """The distinct training labels in their order: by value for numbers, by code point for text."""
    labels: dict[str, npt.NDArray[np.int64]]
    """Split → labels (N,) as numbers of `classes`, of the existing splits."""
    true: npt.NDArray[np.int64] | None
    """True labels of the training samples, likewise; None: unknown."""
    paths: list[str] | None
    """Names of the training samples, such as the paths of image files; None: they have no names."""
    names: dict[str, str]
    """Split → name of its array of samples."""
    channels: int
    """Channels of the images, or the length D of the vectors."""
    height: int
    """Height of the images in pixels; 0 for vectors."""


_read: dict[tuple[str, Kind], tuple[dict[str, tuple[int, int]], ArrayContents]] = {}
"""(root, kind) → times of change and sizes of its files, and its contents. Composing a run asks dozens of times."""


def read_arrays(root: str, kind: Kind) -> ArrayContents:
    """Read the labels of a file of arrays, and the shapes of the samples.

    Args:
        root: see `slnlab.arrays.files.open_arrays`.
        kind: "images" (N, H, W) or (N, H, W, channels), or "features" (N, D).

    Raises:
        DataError: the file is missing or damaged, lacks an array, or has labels of another type, shape or class than
            its training labels. The message names the array and the row, counted from 0 as in NumPy.
    """
    path = Path(root).expanduser()
    found = _read.get((root, kind))
    present = stamps(path)
    if found is None or found[0] != present:
        found = _read[root, kind] = (present, _contents(path, open_arrays(path), kind))
    return found[1]


def stamps(path: Path) -> dict[str, tuple[int, int]]:
    """The files of `open_arrays`, each with its time of change in ns and its size."""
    files = sorted(path.glob("*.npy")) if path.is_dir() else [path] if path.is_file() else []
    stats = {str(file): file.stat() for file in files}
    return {name: (stat.st_mtime_ns, stat.st_size) for name, stat in stats.items()}


def _contents(path: Path, arrays: Arrays, kind: Kind) -> ArrayContents:
    names, labelled = _splits(path, arrays.names, kind)
    used = {*names.values(), *labelled.values()}
    true_name = next((name for name in ("train_true_labels", "true_labels") if name in arrays.names), None)
    path_name = next((name for name in ("train_paths", "paths") if name in arrays.names), None)
    others = [name for name in arrays.names if name not in {*used, true_name, *_UNREAD}]
    if others:
        log.warning("%s: the arrays %s are not used", path, quoted(others))
    raw = {split: _labels(path, name, arrays.read(name)) for split, name in labelled.items()}
    for split, name in names.items():
        count = arrays.shape(name)[0] if arrays.shape(name) else 0
        if count != len(raw[split]):
            raise DataError(f"{path}: {name} has {count} rows, but {labelled[split]} has {len(raw[split])}")
        if not count:
            raise DataError(f"{path}: {name} has no row")
    values = np.unique(raw["train"])
    if len(values) < 2:
        raise DataError(f"{path}: {labelled['train']} has one class, {str(values[0])!r}; training needs at least 2")
    classes = [str(value) for value in values.tolist()]
    for name in classes:
        if "${" in name:
            raise DataError(f"{path}: '${{' in the class {name!r} would be read as a reference; rename the class")
    numbered = {split: _numbers(path, labelled[split], found, values) for split, found in raw.items()}
    true = None
    if true_name is not None:
        true = _numbers(path, true_name, _labels(path, true_name, arrays.read(true_name)), values)
        if len(true) != len(raw["train"]):
            raise DataError(f"{path}: {true_name} has {len(true)} rows, but {labelled['train']} {len(raw['train'])}")
    paths = None if path_name is None else _paths(path, path_name, arrays.read(path_name), len(raw["train"]))
    shape = _shape(path, arrays, names, kind)
    channels = shape[-1] if len(shape) != 2 else 1
    return ArrayContents(classes, numbered, true, paths, names, channels, shape[0] if kind == "images" else 0)


def _splits(path: Path, found: list[str], kind: Kind) -> tuple[dict[str, str], dict[str, str]]:
    """Split → name of its samples, and split → name of its labels."""
    names = {split: f"{prefix}_{kind}" for split, prefix in SPLITS.items() if f"{prefix}_{kind}" in found}
    labels = {split: f"{prefix}_labels" for split, prefix in SPLITS.items() if f"{prefix}_labels" in found}
    if kind in found and "train" not in names:
        names["train"] = kind
    if "labels" in found and "train" not in labels:
        labels["train"] = "labels"
    if "train" not in names:
        other = "features" if kind == "images" else "images"
        option = "npz" if other == "images" else "features"
        hint = f"; for {other} choose data={option}" if {other, f"train_{other}"} & {*found} else ""
        raise DataError(f"{path}: has no array train_{kind}; its arrays are {quoted(found)}{hint}")
    for split in names.keys() ^ labels.keys():
        has, lacks = (names, "labels") if split in names else (labels, kind)
        raise DataError(f"{path}: has {has[split]}, but no {SPLITS[split]}_{lacks}; its arrays are {quoted(found)}")
    return names, labels


def _labels(path: Path, name: str, found: Array) -> Array:
    """Labels (N,): int64, or text in Unicode's composed form without blanks at the ends."""
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    if found.ndim != 1:
        raise DataError(
            f"{path}: {name} has the shape {found.shape}; one label for each sample is needed, (N,) or (N, 1), so sets "
            "with several labels for a sample (such as ChestMNIST) are refused"
        )
    if found.dtype.kind in "iub":
        return found.astype(np.int64)
    if found.dtype.kind == "S":
        found = np.char.decode(found, "utf-8", "backslashreplace")
    if found.dtype.kind != "U":
        raise DataError(f"{path}: {name} has the type {found.dtype}; labels are integers or text")
    tidy = np.asarray([unicodedata.normalize("NFC", label.strip()) for label in found.tolist()], dtype=str)
    if (empty := np.flatnonzero(tidy == "")).size:
        raise DataError(f"{path}: {name}, row {empty[0]} (from 0) has an empty label")
    return tidy


def _paths(path: Path, name: str, found: Array, count: int) -> list[str]:
    """The names (N,) of the training samples, text or bytes."""
    if found.dtype.kind not in "US" or found.shape != (count,):
        raise DataError(
            f"{path}: {name} is {found.dtype} {found.shape}; the names of {count} samples are text ({count},)"
        )
    paths = [os.fsdecode(each) for each in found.tolist()]
    for row, each in enumerate(paths):
        if not each:
            raise DataError(f"{path}: {name}, row {row} (from 0) is empty")
    if len(set(paths)) < count:
        twice = next(each for each, times in Counter(paths).items() if times > 1)
        raise DataError(f"{path}: {name} names two samples {twice!r}")
    return paths


def _numbers(path: Path, name: str, found: Array, classes: Array) -> npt.NDArray[np.int64]:
    """Labels (N,) as numbers of the classes."""
    if found.dtype.kind != classes.dtype.kind:
        one, other = ("text" if labels.dtype.kind == "U" else "integers" for labels in (found, classes))
        raise DataError(f"{path}: {name} holds {one}, but the training labels are {other}")
    strange = np.flatnonzero(~np.isin(found, classes))
    if strange.size:
        raise DataError(
            f"{path}: {name}, row {strange[0]} (from 0) has the label {found[strange[0]].item()!r}, which no training "
            f"sample has; their {len(classes)} classes are {quoted(classes.tolist())}"
        )
    return np.searchsorted(classes, found).astype(np.int64)


def _shape(path: Path, arrays: Arrays, names: dict[str, str], kind: Kind) -> tuple[int, ...]:
    """The shape of one sample, the same in all splits."""
    first: tuple[int, ...] = ()
    for name in names.values():
        shape = arrays.shape(name)
        fits = len(shape) == 2 if kind == "features" else len(shape) in (3, 4)
        if not fits or 0 in shape:
            allowed = "(N, D)" if kind == "features" else "(N, height, width) or (N, height, width, channels)"
            raise DataError(f"{path}: {name} has the shape {shape}; {kind} are {allowed}")
        first = first or shape[1:]
        if shape[1:] != first:
            raise DataError(f"{path}: {name} has samples of the shape {shape[1:]}, those of training have {first}")
    if len(first) == 3 and first[2] > min(first[:2]):
        raise DataError(
            f"{path}: {names['train']} has samples of the shape {first}; channels come last, (height, width, channels)"
        )
    return first


def samples(root: str, kind: Kind, split: str) -> Array:
    """The samples of a split: images uint8 (N, channels, H, W), or features float32 (N, D).

    Raises:
        DataError: see `read_arrays`; or images of another type, or features that are no finite numbers.
        ConfigError: there is no such split; the message names the key that asks for it.
    """
    contents, path = read_arrays(root, kind), Path(root).expanduser()
    if split not in contents.names:
        key = {"val_clean": "clean_val", "test": "test"}[split]
        raise ConfigError(f"data.{key}: {path} has no {SPLITS[split]}_{kind}; data.{key}=false")
    name = contents.names[split]
    found = open_arrays(path).read(name)
    if kind == "images":
        if found.dtype != np.uint8:
            raise DataError(f"{path}: {name} has the type {found.dtype}; images are uint8, from 0 to 255")
        return found[:, None] if found.ndim == 3 else np.ascontiguousarray(found.transpose(0, 3, 1, 2))
    return finite(path, name, found)


def origin(file: Path) -> dict[str, Any]:
    """The origin of the features in a file, as `slnlab.embed` notes it; empty for a file of another program.

    Raises:
        DataError: the file cannot be read.
    """
    arrays = open_arrays(file)
    try:
        found = json.loads(str(arrays.read(ABOUT)[()])) if ABOUT in arrays.names else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def finite(path: Path, name: str, found: Array) -> npt.NDArray[Any]:
    """The features of an array as float32.

    Raises:
        DataError: they are no finite numbers.
    """
    if found.dtype.kind not in "iufb":
        raise DataError(f"{path}: {name} has the type {found.dtype}; features are numbers")
    with np.errstate(over="ignore"):  # float64 beyond the range of float32 becomes infinite, and is refused
        vectors = np.ascontiguousarray(found, dtype=np.float32)
    bad = np.argwhere(~np.isfinite(vectors))
    if len(bad):
        row, column = bad[0].tolist()
        rows = len(np.unique(bad[:, 0]))
        more = f" ({rows} rows have such values)" if rows > 1 else ""
        raise DataError(f"{path}: {name}, row {row}, column {column} (from 0) is {found[row, column]}{more}; remove it")
    return vectors
