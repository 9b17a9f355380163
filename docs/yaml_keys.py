"""The keys of a YAML file with the comments that explain them, and tables of Markdown."""

from __future__ import annotations

import re
from typing import NamedTuple


class Key(NamedTuple):
    """One key of a YAML file."""

    path: str
    value: str
    comment: str


def keys(text: str) -> tuple[str, list[Key]]:
    """The comment at the head of a YAML file, and its keys with what is said beside and above each."""
    head: list[str] = []
    found: list[Key] = []
    parents: list[tuple[int, str]] = []
    above: list[str] = []
    for line in text.splitlines():
        said = re.match(r"( *)# ?(.*)", line)
        if said and not said[2].startswith("@package"):
            (above if found else head).append(said[2])
        named = re.match(r"( *)([\w/@]+):(?: +(.*))?$", line)
        item = re.match(r" *- (.*)", line)
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
    """A value, and the comment behind it."""
    value, _, comment = text.partition(" #") if not text.startswith("#") else ("", "", text[1:])
    return value.strip(), comment.strip()


def cell(text: str) -> str:
    """Text that stays one cell of a table."""
    return re.sub(r"([|<*])", r"\\\1", " ".join(text.split()))


def code(value: str) -> str:
    return f"`{value}`".replace("|", r"\|") if value else ""


def table(titles: str, rows: list[list[str]]) -> str:
    lines = [f"| {titles} |", "|" + "---|" * (titles.count("|") + 1), *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines)
