"""What the kill matrix and the requeue matrix leave: `results.csv` and a page, `README.md`.

A cell is a dataclass; its last field, `differences`, says what was not the same as in a run that was left alone.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from slnlab.storage.tables import write_csv


def write(out: Path, cells: Sequence[Any], page: str) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_csv(out / "results.csv", [asdict(cell) for cell in cells])
    (out / "README.md").write_text(page)


def environment(*more: str) -> str:
    """The page's paragraph on where it was made; no GPU was used."""
    import torch

    from slnlab.record.environment import git_state, processor_name

    git = git_state() or {}
    commit = f"{git.get('commit', 'unknown')[:10]}{' with changes' if git.get('dirty') else ''}"
    return f"""**Environment.** {processor_name()}, {platform.system()}, Python {platform.python_version()}, PyTorch
{torch.__version__}, {", ".join([*more, "no GPU"])}; slnlab at {commit}."""


def result(cells: Sequence[Any], columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """How many cells are identical, and the table: a row for each, to which that is added."""
    verdicts = [f"**no**: {cell.differences}" if cell.differences else "yes" for cell in cells]
    lines = [
        f"**Result.** {verdicts.count('yes')} of {len(cells)} identical.",
        "",
        f"| {' | '.join([*columns, 'identical?'])} |",
        "|" + "---|" * (len(columns) + 1),
        *(f"| {' | '.join(map(str, [*row, verdict]))} |" for row, verdict in zip(rows, verdicts, strict=True)),
    ]
    return "\n".join(lines)
