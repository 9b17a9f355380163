"""Names and values as messages show them: in quotes, and of very many the first."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from typing import Any


def quoted(names: Iterable[str], most: int = 8) -> str:
    """Names in quotes, so that blanks and foreign bytes show; of many the first ones and how many more.

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
    """A value of the configuration as a message shows it: of a list of a thousand the first ones."""
    return _short.repr(value)
