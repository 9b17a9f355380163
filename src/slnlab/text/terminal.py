"""Text for people: on terminals of any encoding, and in log files, which are UTF-8 whatever the locale says."""

from __future__ import annotations

import functools
import io
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec

P = ParamSpec("P")


def print_anywhere() -> None:
    """Let stdout and stderr print every text: a character that their encoding lacks is escaped (σ in ASCII: \\u03c3).

    The encoding stays what the terminal or the locale says. Every command calls this first. Streams that somebody has
    put in their place, as notebooks do, stay as they are.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def quiet_on_broken_pipe(main: Callable[P, None]) -> Callable[P, None]:
    """A command that ends quietly, with exit code 141 as shells have it, when nobody reads on (`| head`).

    Training is left alone: in a broken pipe elsewhere, or where stdout still has a reader, the error is raised.
    """

    @functools.wraps(main)
    def command(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            try:
                main(*args, **kwargs)
            finally:
                print(end="", flush=True)  # here rather than when Python ends, where nothing can be caught
        except BrokenPipeError:
            try:
                print(flush=True)
            except BrokenPipeError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still in the buffer
                sys.exit(141)
            raise

    return command


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
