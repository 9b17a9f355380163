"""Writing a file so that a reader sees either the old one or the whole new one."""

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
    """A binary file that takes the place of ``path`` when the block ends without an exception.

    It is written beside ``path``, because a rename is atomic only within one file system. Not through
    ``tempfile``, whose files only their owner may read: records are shared.

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


def remove_begun(folder: Path) -> None:
    """Remove what a killed process had begun to write here through `replacing`."""
    for begun in folder.glob(f".*.{'[0-9a-f]' * 32}.tmp"):
        begun.unlink(missing_ok=True)
