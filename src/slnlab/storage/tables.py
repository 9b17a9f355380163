"""CSV files: ours, and those of other programs with any line ends, a byte order mark, quotes, blanks around cells."""

from __future__ import annotations

import csv
import io
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from slnlab.errors import DataError
from slnlab.storage.writing import replacing
from slnlab.text.messages import quoted

OTHER_BYTES = re.compile("[\udc80-\udcff]")
"""Bytes that are not UTF-8, as Python reads them from file names."""


def csv_bytes(rows: Iterable[Iterable[object]], errors: str = "surrogateescape") -> bytes:
    """Rows as CSV in UTF-8 with LF. None is an empty cell.

    Args:
        rows: with the header.
        errors: as of `str.encode`; by default names of files keep bytes that are not UTF-8.
    """
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", errors)


def write_csv(path: Path, lines: Sequence[Mapping[str, object]]) -> None:
    """Write lines with equal keys as CSV with a header. An existing file is replaced atomically.

    Raises:
        DataError: the file cannot be written.
    """
    header = list(lines[0]) if lines else []
    with replacing(path) as file:
        file.write(csv_bytes([header, *([line[key] for key in header] for line in lines)], "backslashreplace"))


def csv_rows(path: Path) -> list[list[str]]:
    """Return all rows with the header, without empty lines at the end of the file.

    The names of files need not be UTF-8: other bytes in a column `path` become surrogates, as Python reads file names.

    Raises:
        DataError: the file is missing, unreadable, or no UTF-8 text outside that column.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
        rows = list(csv.reader(io.StringIO(text, newline="")))
        if not text.isascii() and OTHER_BYTES.search(text):
            _check_text(path, rows)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except csv.Error as error:
        raise DataError(f"{path}: is no CSV text file: {error}") from error
    while rows and not any(cell.strip() for cell in rows[-1]):
        del rows[-1]
    return rows


def _check_text(path: Path, rows: list[list[str]]) -> None:
    header = [name.strip() for name in rows[0]]
    for line, row in enumerate(rows, start=1):
        for place, cell in enumerate(row):
            if OTHER_BYTES.search(cell) and header[place : place + 1] != ["path"]:
                raise DataError(f"{path}: is no CSV text file: {os.fsencode(cell)!r} in line {line} is not UTF-8")


def records(path: Path, needed: tuple[str, ...]) -> tuple[list[str], Iterator[tuple[int, dict[str, str]]]]:
    """Return the header of a CSV file, and pairs (line, column → cell) of its rows. Cells have no outer blanks.

    Args:
        path: the file; its header is line 1.
        needed: columns that it must have.

    Raises:
        DataError: see `csv_rows`; a column is missing or doubled, there is no row, or a row has too many or too few
            cells.
    """
    rows = csv_rows(path)
    header = [name.strip() for name in rows[0]] if rows else []
    missing = [name for name in needed if name not in header]
    if missing:
        raise DataError(f"{path}: line 1 has no column {quoted(missing)}; its columns are {quoted(header)}")
    if len(set(header)) < len(header):
        raise DataError(f"{path}: line 1 has a column twice; its columns are {quoted(header)}")
    if len(rows) < 2:
        raise DataError(f"{path}: has no row below its header")
    return header, _records(path, header, rows)


def _records(path: Path, header: list[str], rows: list[list[str]]) -> Iterator[tuple[int, dict[str, str]]]:
    for line, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            raise DataError(f"{path}: line {line}: must have {len(header)} columns, has {len(row)}")
        yield line, {name: cell.strip() for name, cell in zip(header, row, strict=True)}


def finder(names: Iterable[str]) -> Callable[[str], str | None]:
    """A function from a name as somebody wrote it to one of `names`, or None: itself, or the only one of its form.

    Two names may have one form, see `plain_path`: then each has to be written as it is.
    """
    exact = set(names)
    alike: dict[str, set[str]] = {}
    for name in exact:
        alike.setdefault(plain_path(name), set()).add(name)

    def find(written: str) -> str | None:
        if written in exact:
            return written
        found = alike.get(plain_path(written), set())
        return next(iter(found)) if len(found) == 1 else None

    return find


def plain_path(path: str) -> str:
    """Return one form for all ways to write a path."""
    return unicodedata.normalize("NFC", os.path.normpath(path.strip().replace("\\", "/")))
