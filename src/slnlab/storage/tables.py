"""CSV files by other programs: any line ends, a byte order mark, quotes, blanks around cells."""

from __future__ import annotations

import csv
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from slnlab.errors import DataError
from slnlab.text.messages import quoted


def csv_rows(path: Path) -> list[list[str]]:
    """Return all rows with the header, without empty lines at the end of the file.

    Raises:
        DataError: the file is missing, unreadable, or no UTF-8 text.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: is no CSV text file: {error}") from error
    while rows and not any(cell.strip() for cell in rows[-1]):
        del rows[-1]
    return rows


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


def plain_path(path: str) -> str:
    """Return one form for all ways to write a path."""
    return unicodedata.normalize("NFC", os.path.normpath(path.strip().replace("\\", "/")))
