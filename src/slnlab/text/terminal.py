"""Output for people: on terminals of any encoding, and in log files, always UTF-8."""

from __future__ import annotations

import functools
import io
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec

from slnlab.errors import SlnlabError

P = ParamSpec("P")


def print_anywhere() -> None:
    """Let stdout and stderr print every text, with escapes for characters outside their encoding (σ in ASCII: \\u03c3).

    The encoding itself stays as it is. Every command calls this first. Replaced streams, as in notebooks, stay
    unchanged.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def quiet_on_broken_pipe(main: Callable[P, None]) -> Callable[P, None]:
    """A command that ends quietly: with exit code 141 when the reader of its stdout is gone (`| head`), 130 by Ctrl-C.

    Other broken pipes, while stdout still has a reader, raise their error.
    """

    @functools.wraps(main)
    def quiet(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            try:
                main(*args, **kwargs)
            finally:
                print(end="", flush=True)  # Python flushes at its end too, but nothing can catch an error there
        except KeyboardInterrupt:
            sys.exit(130)
        except BrokenPipeError:
            try:
                print(flush=True)
            except BrokenPipeError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # takes the rest of the buffer
                sys.exit(141)
            raise

    return quiet


def command(main: Callable[P, None]) -> Callable[P, None]:
    """A command that prints anywhere, ends quietly, and whose user's error is one message and exit code 1."""

    @functools.wraps(main)
    def framed(*args: P.args, **kwargs: P.kwargs) -> None:
        print_anywhere()
        try:
            main(*args, **kwargs)
        except SlnlabError as error:
            sys.exit(f"error: {error}")

    return quiet_on_broken_pipe(framed)


def can_print(text: str) -> bool:
    """True if stderr shows this text without escapes."""
    try:
        text.encode(getattr(sys.stderr, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def log_file(path: str | Path) -> logging.FileHandler:
    """A handler that appends UTF-8 to a file. Bytes of file names outside UTF-8 are escaped.

    Raises:
        OSError: the file cannot be written.
    """
    return logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")


class ProgressLine:
    """A line on stderr: rewritten on a terminal, otherwise a new line every 30 seconds."""

    EVERY = 30.0

    def __init__(self) -> None:
        self.began = self._shown = time.monotonic()

    def show(self, text: str) -> None:
        """Show the text, unless the last one is too recent."""
        now, terminal = time.monotonic(), sys.stderr.isatty()
        if now - self._shown < (0.2 if terminal else self.EVERY):
            return
        self._shown = now
        print(f"\r{text}\033[K" if terminal else text, end="" if terminal else "\n", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Remove the line from a terminal."""
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)
