"""Tables as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from slnlab.tables.layout import TEXT_COLUMNS, Table, note


def markdown(tables: Sequence[Table]) -> str:
    """The tables with headings, followed by the meaning of the columns."""
    blocks = []
    for table in tables:
        blocks += [f"### {table.title}\n\n{_lines(table)}", *table.remarks]
    return "\n\n".join([*blocks, note(tables)])


def _lines(table: Table) -> str:
    padded = []
    for name, cells in table.columns.items():
        column = [cell.replace("|", r"\|") for cell in (name, *cells)]
        width = max(3, *map(len, column))
        rule = ":" + "-" * (width - 1) if name in TEXT_COLUMNS else "-" * (width - 1) + ":"
        first, *others = (value.ljust(width) if name in TEXT_COLUMNS else value.rjust(width) for value in column)
        padded.append([first, rule, *others])
    return "\n".join(f"| {' | '.join(line)} |" for line in zip(*padded, strict=True))
