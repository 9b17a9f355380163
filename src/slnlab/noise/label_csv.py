"""Given labels from and to a CSV file, in the format of the SLN authors' published labels."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from slnlab.errors import ConfigError, DataError
from slnlab.noise._check import check_labels, check_num_classes
from slnlab.storage.tables import csv_rows, finder
from slnlab.storage.writing import replacing
from slnlab.text.messages import quoted

__all__ = ["from_csv", "to_csv"]

_HEADER = ["label", "label_noisy"]
# int() would accept "1_0" and digits of other scripts. 18 digits always fit int64.
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")


def from_csv(
    labels: Tensor,
    path: str | os.PathLike[str],
    num_classes: int,
    num_train: int | None = None,
    paths: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
) -> Tensor:
    """Read given labels from a file: header ``label,label_noisy``, one row per training sample in data set order.

    The ``label`` column must repeat the data's true labels. Otherwise a file for another order of the samples, or
    another data set, would become noise of an unknown rate.

    Image files (``paths``) are matched by name instead: the column ``path`` names the file, the column ``label`` holds
    the given label, and other columns are ignored. Rows may have any order. Each training image needs one row; rows
    of other files are ignored.

    Args:
        labels: true labels, (N,) int64 on the CPU, in [0, num_classes).
        path: the file, UTF-8; LF or CRLF line ends. It has N or ``num_train`` rows; the first N are used.
        num_classes: C, at least 2.
        num_train: size of the whole training set, which begins with ``labels``; None: N.
        paths: relative paths of the N images, as the data set lists them; None: images in memory.
        classes: names of the classes. A ``label`` beside a ``path`` is a name or a number.

    Returns:
        Given labels, (N,) int64: the column ``label_noisy``, or ``label`` beside ``path``.

    Raises:
        ConfigError: labels or num_classes of another type, shape or range.
        DataError: the file is missing, or has another header or length; or a row lacks a column, holds no integer, a
            label outside the classes, or another ``label`` than the data. The first such row is named, by its number
            from 1 and its line.
    """
    num_classes = check_num_classes(num_classes)
    expected = check_labels(labels, num_classes).tolist()
    rows = csv_rows(Path(path))
    if paths is not None:
        given = _by_path(path, rows, paths, num_classes, classes or [])
    else:
        given = _in_order(path, rows, expected, num_classes, num_train)
    return torch.tensor(given, dtype=torch.int64)


def to_csv(path: str | os.PathLike[str], true_labels: Tensor, given_labels: Tensor) -> None:
    """Write true and given labels in the format of ``from_csv`` (UTF-8, LF). An existing file is replaced atomically.

    Args:
        path: the file; its folder must exist.
        true_labels: (N,) int64 on the CPU, not negative; the column ``label``.
        given_labels: the same, of the same length; the column ``label_noisy``.

    Raises:
        ConfigError: labels of another type, shape or range.
        DataError: the file cannot be written.
    """
    check_labels(true_labels, name="true_labels")
    check_labels(given_labels, name="given_labels")
    if len(true_labels) != len(given_labels):
        raise ConfigError(f"given_labels: has {len(given_labels)} samples, true_labels {len(true_labels)}")
    pairs = zip(true_labels.tolist(), given_labels.tolist(), strict=True)
    lines = [",".join(_HEADER), *(f"{true},{given}" for true, given in pairs)]
    with replacing(Path(path)) as file:
        file.write(("\n".join(lines) + "\n").encode("ascii"))


def _in_order(
    path: str | os.PathLike[str], rows: list[list[str]], expected: list[int], num_classes: int, num_train: int | None
) -> list[int]:
    """The given labels of rows in data set order, whose true labels are as `expected`."""
    if not rows or [name.strip() for name in rows[0]] != _HEADER:
        found = ",".join(rows[0]) if rows else ""
        raise DataError(f"{path}: line 1 must be the header 'label,label_noisy', found {found[:80]!r}")
    del rows[0]
    # The length comes first: it describes a file for another data set better than its first wrong label.
    if len(rows) not in (len(expected), num_train):
        whole = "" if num_train in (None, len(expected)) else f", the first of {num_train}"
        raise DataError(f"{path}: has {len(rows)} data rows, but the data has {len(expected)} samples{whole}")

    given: list[int] = []
    for number, (row, true_label) in enumerate(zip(rows, expected, strict=False), start=1):
        where = f"{path}: data row {number} (line {number + 1})"
        if len(row) != 2:
            raise DataError(f"{where}: must have 2 columns, has {len(row)}")
        for column, text in zip(_HEADER, row, strict=True):
            if not _INTEGER.fullmatch(text.strip(" \t")):
                raise DataError(f"{where}: {column} is {text[:40]!r}, not an integer")
        label, label_noisy = int(row[0]), int(row[1])
        for column, value in zip(_HEADER, (label, label_noisy), strict=True):
            if not 0 <= value < num_classes:
                raise DataError(f"{where}: {column} is {value}, outside the classes [0, {num_classes})")
        if label != true_label:
            raise DataError(
                f"{where}: label is {label}, but the data's label of sample {number - 1} is {true_label}; "
                "the file belongs to another data set or another order of the samples"
            )
        given.append(label_noisy)
    return given


def _by_path(
    file: str | os.PathLike[str],
    rows: list[list[str]],
    paths: Sequence[str],
    num_classes: int,
    classes: Sequence[str],
) -> list[int]:
    header = [name.strip() for name in rows[0]] if rows else []
    if not {"path", "label"} <= set(header):
        raise DataError(
            f"{file}: line 1 must be a header with the columns 'path' and 'label', as these images come from files; "
            f"found {','.join(header)[:80]!r}"
        )
    at_path, at_label = header.index("path"), header.index("label")
    # A name wins over an equal number, as in a class map.
    numbers = {**{str(c): c for c in range(num_classes)}, **{name: c for c, name in enumerate(classes)}}
    find, row_of = finder(paths), {path: row for row, path in enumerate(paths)}
    given: dict[int, int] = {}
    for line, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            raise DataError(f"{file}: line {line}: must have {len(header)} columns, has {len(row)}")
        path = find(row[at_path].strip())
        if path is None:
            continue
        sample = row_of[path]
        if sample in given:
            raise DataError(f"{file}: line {line}: a second row of {paths[sample]!r}")
        label = unicodedata.normalize("NFC", row[at_label].strip())
        if not label:
            raise DataError(f"{file}: line {line}: has no label; only data.labels=FILE leaves images out")
        if label not in numbers:
            known = quoted(classes) if classes else f"0 to {num_classes - 1}"
            raise DataError(f"{file}: line {line}: there is no class {label[:80]!r}; the classes are {known}")
        given[sample] = numbers[label]
    missing = [path for row, path in enumerate(paths) if row not in given]
    if missing:
        raise DataError(
            f"{file}: has no row of {len(missing)} of {len(paths)} training images, such as {quoted(missing, 3)}; "
            "the column path holds paths as label_issues.csv does, relative to data.source.root"
        )
    return [given[row] for row in range(len(paths))]
