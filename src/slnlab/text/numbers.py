"""Numbers on the command line, as types for argparse."""

from __future__ import annotations

import argparse


def count(text: str) -> int:
    """A whole number of at least 1.

    Raises:
        argparse.ArgumentTypeError: the text is none.
    """
    if not (text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    return int(text)


def seeds(text: str) -> list[int]:
    """Seeds separated by commas: different whole numbers of at least 0.

    Raises:
        argparse.ArgumentTypeError: the text is none.
    """
    parts = text.split(",")
    if not all(part.isdecimal() for part in parts) or len({*map(int, parts)}) < len(parts):
        raise argparse.ArgumentTypeError(f"must be different whole numbers separated by commas, not {text!r}")
    return [int(part) for part in parts]


def seconds(text: str) -> float:
    """A time above 0.

    Raises:
        argparse.ArgumentTypeError: the text is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of seconds above 0, not {text!r}")
    return value
