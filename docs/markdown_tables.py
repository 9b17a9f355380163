"""Cells and tables of Markdown."""

from __future__ import annotations

import re


def cell(text: str) -> str:
    """Text that stays one cell of a table."""
    return re.sub(r"([|<*])", r"\\\1", " ".join(text.split()))


def code(value: str) -> str:
    return f"`{value}`".replace("|", r"\|") if value else ""


def table(titles: str, rows: list[list[str]]) -> str:
    lines = [f"| {titles} |", "|" + "---|" * (titles.count("|") + 1), *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines)
