"""Names and values as messages show them: quoted and shortened."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Sequence
from typing import Any


def quoted(names: Iterable[str], most: int = 8) -> str:
    """The first `most` names in quotes, and how many more there are. Quotes make blanks and foreign bytes visible.

    >>> quoted(["cat", "dog ", "owl"], most=2)
    "'cat', 'dog ' and 1 more"
    """
    every = list(names)
    shown = ", ".join(map(repr, every[:most]))
    return f"{shown} and {len(every) - most} more" if len(every) > most else shown


_short = reprlib.Repr()
_short.maxlist = _short.maxdict = 8
_short.maxstring = _short.maxother = 120


def short(value: Any) -> str:
    """A configuration value as a message shows it: at most 8 items, and texts of at most 120 characters."""
    return _short.repr(value)


def near(word: str, known: Sequence[str]) -> str:
    """The hint ` (did you mean …?)` for a misspelt word; empty if no known word is close."""
    close = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""
