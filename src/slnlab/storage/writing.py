"""Atomic writing: a reader sees the old file or the whole new one."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from slnlab.errors import DataError


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A binary file that takes the place of `path` when the block ends without an exception.

    The file is written beside `path`, because a rename is atomic only within one file system. `tempfile` does not
    serve here: only the owner may read its files, and records are shared.

    Raises:
        DataError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        try:
            with open(temporary, "xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error


def remove_unfinished(folder: Path) -> None:
    """Remove the unfinished files of `replacing` that a killed process left in a folder."""
    for unfinished in folder.glob(f".*.{'[0-9a-f]' * 32}.tmp"):
        unfinished.unlink(missing_ok=True)
