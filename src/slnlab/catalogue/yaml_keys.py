"""The keys of a YAML file with their comments."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple


class Key(NamedTuple):
    """One key of a YAML file."""

    path: str
    value: str
    comment: str


def keys(text: str) -> tuple[str, list[Key]]:
    """Return the head comment of a YAML file, and its keys with the comments beside and above each.

    A comment below one beside a key, in the same column, continues it.
    """
    head: list[str] = []
    column = None
    found: list[Key] = []
    parents: list[tuple[int, str]] = []
    above: list[str] = []
    for line in text.splitlines():
        comment_line = re.match(r"( *)# ?(.*)", line)
        if comment_line and len(comment_line[1]) == column:
            found.append(found[-1]._replace(comment=f"{found.pop().comment} {comment_line[2]}"))
            continue
        if comment_line and not comment_line[2].startswith("@package"):
            (above if found else head).append(comment_line[2])
        named = re.match(r"( *)([\w/@]+):(?: +(.*))?$", line)
        item = re.match(r" *- (.*)", line)
        column = line.find(" #") + 1 if (named or item) and " #" in line else None
        if named:
            depth = len(named[1])
            parents = [*((d, name) for d, name in parents if d < depth), (depth, named[2])]
            value, beside = split(named[3] or "")
            comment = " ".join([*above, *([beside] if beside else [])])
            found.append(Key(".".join(name for _, name in parents), value, comment))
            above = []
        elif item and found:
            value, beside = split(item[1])
            last = found.pop()
            value = ", ".join(filter(None, [last.value, value]))
            found.append(Key(last.path, value, f"{last.comment} {beside}".strip()))
    return "\n".join(head), found


def split(text: str) -> tuple[str, str]:
    """Split text into a value and the comment behind it."""
    value, _, comment = text.partition(" #") if not text.startswith("#") else ("", "", text[1:])
    return value.strip(), comment.strip()


def preset_of(key: Key) -> str:
    """Return the path of the preset table of a key in a method's YAML; empty if it has none."""
    of_method = key.path.startswith(("method.", "loss."))
    named = re.search(r"preset[:.](\w+\.\w+)" if of_method else r"slnlab\.preset:(\w+\.\w+)", key.value)
    return f"preset.{named[1]}" if named else ""


def source(key: Key, every: Iterable[Key]) -> str:
    """Return the source of a key's value: its comment, and the comments of its preset table by data set.

    Args:
        key: a key of a method's YAML.
        every: all keys of that YAML.
    """
    top = preset_of(key)
    below = [(each.path[len(top) :].strip("."), each.comment) for each in every if top and each.path.startswith(top)]
    return "; ".join(filter(None, [key.comment, *(f"{at}: {text}" if at else text for at, text in below if text)]))
