"""Text for people: on terminals of any encoding, and in log files, which are UTF-8 whatever the locale says."""

from __future__ import annotations

import io
import logging
import sys
from pathlib import Path


def print_anywhere() -> None:
    """Let stdout and stderr print every text: a character that their encoding lacks is escaped (σ in ASCII: \\u03c3).

    The encoding stays what the terminal or the locale says. Every command calls this first. Streams that somebody has
    put in their place, as notebooks do, stay as they are.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def can_print(text: str) -> bool:
    """Whether messages show this very text, rather than escaped characters."""
    try:
        text.encode(getattr(sys.stderr, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def log_file(path: str | Path) -> logging.FileHandler:
    """A handler that appends UTF-8 to a file; bytes of a file's name that are not UTF-8 are escaped.

    Raises:
        OSError: the file cannot be written.
    """
    return logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
