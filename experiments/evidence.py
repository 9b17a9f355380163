"""Committed result files as rows: `results.csv` of `slnlab report`, `<kind>.csv` of `slnlab analyze`."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

EXPERIMENTS = Path(__file__).resolve().parent

Line = dict[str, str]
"""A line of a CSV by column."""


def read(path: Path) -> list[Line]:
    """The lines of a CSV; none if there is no such file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def results(folder: Path) -> list[Line]:
    """The lines of `results.csv`, one per run and row, that have a test accuracy.

    The files of the subfolders count too; the column `part` names the subfolder, and is empty for the folder itself.
    Noise that a run read from the authors' published files counts by its type, such as `sym`, not as `csv`.
    """
    lines = []
    for path in [folder / "results.csv", *sorted(folder.glob("*/results.csv"))]:
        part = "" if path.parent == folder else path.parent.name
        lines += [{**line, "part": part} for line in read(path) if line.get("test_last")]
    for line in lines:
        line["noise"] = _published().get(line["noise_hash"], line["noise"])
    return lines


def percent(line: Line, column: str) -> float:
    """A fraction in percent."""
    return 100 * float(line[column])


def table(header: list[str], rows: list[list[str]], numbers: frozenset[str] = frozenset()) -> str:
    """A Markdown table. The columns in `numbers` are aligned to the right."""
    lines = [header, ["---:" if name in numbers else "---" for name in header], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@cache
def _published() -> dict[str, str]:
    """Hash of the authors' published noisy labels → their noise type."""
    return {line["hash"]: line["noise"] for line in read(EXPERIMENTS / "published_noise.csv")}
