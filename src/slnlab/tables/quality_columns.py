"""Columns of a table for recall and calibration on the test set."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from slnlab.tables.table import Row, Statistic

MOST_CLASSES = 20
"""Largest number of classes that have a column each."""

NOTE = """
balanced: mean recall of the classes. ECE, NLL (nats), Brier: calibration. recall: accuracy on each class in percent.
All on the test set at the last epoch."""


def quality_columns(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Name of a column → a cell per row, means over runs; classes have columns where all rows have the same ones.

    Args:
        rows: of one table.
    """
    columns = {
        "balanced": [_shown(row.statistics["balanced_accuracy"], 100, 2) for row in rows],
        "ECE": [_shown(row.statistics["ece"], 1, 3) for row in rows],
        "NLL": [_shown(row.statistics["nll"], 1, 3) for row in rows],
        "Brier": [_shown(row.statistics["brier"], 1, 3) for row in rows],
    }
    recalls = [_recalls(row) for row in rows]
    classes = {len(each) for each in recalls if each}
    if len(classes) == 1 and (count := classes.pop()) <= MOST_CLASSES:
        named = rows[0].group.first.identity["data"].get("classes") or range(count)
        for number, name in enumerate(named):
            columns[f"recall {name}"] = [each[number] if each else "–" for each in recalls]
    return columns


def _shown(found: Statistic | None, factor: float, digits: int) -> str:
    return "–" if found is None else f"{factor * found.mean:.{digits}f}"


def _recalls(row: Row) -> list[str]:
    """Recall of each class in percent, mean over runs; empty if a run has read no test set."""
    qualities = [run.result.rows[row.name].test_quality for run in row.group.runs]
    every = [quality.class_recall for quality in qualities if quality is not None]
    if len(every) < len(qualities):
        return []
    return ["–" if None in of_class else f"{100 * fmean(of_class):.1f}" for of_class in zip(*every, strict=True)]
