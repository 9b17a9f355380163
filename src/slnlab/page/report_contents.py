"""What the page shows, as plain numbers and texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from slnlab.errors import DataError
from slnlab.figures.panels import epochs
from slnlab.figures.subjects import Subject
from slnlab.figures.training_samples import read_training_samples
from slnlab.record.sweep_plan import run_status
from slnlab.tables.layout import TEXT_COLUMNS, Table, note
from slnlab.tables.runs import Found, Group
from slnlab.tables.table import Row

OF_A_ROW = {
    "test/{}/accuracy": "test accuracy (%)",
    "val/{}/accuracy": "accuracy on held-out noisy labels (%)",
    "test/{}/loss": "test loss (nats)",
}
"""Metrics of a row, with the name of its weights, and their titles."""
OF_THE_NETWORK = {
    "train/memorised": "memorised: wrong labels predicted as given (%)",
    "train/recovered": "recovered: wrong labels predicted as true (%)",
    "train/loss_correct": "training loss on correct labels (nats)",
    "train/loss_wrong": "training loss on wrong labels (nats)",
    "train/loss": "training loss (nats)",
}
"""Metrics of a run, measured on its network while it trains; shown with the first row of the run that is shown."""
FRACTIONS = ("train/memorised", "train/recovered")
SLOWEST = 10
"""Number of runs in the list of the slowest."""


def contents(tables: Sequence[Table], found: Found, groups: Sequence[Group]) -> dict[str, Any]:
    """The contents of the page: texts, numbers and lists only.

    Args:
        tables: with the rows in the order of the page.
        found: the runs with those that are not finished.
        groups: of the rows.
    """
    names = list(dict.fromkeys(name for table in tables for name in table.columns))
    names.sort(key=lambda name: name not in TEXT_COLUMNS)
    text = ("data", "noise", *TEXT_COLUMNS)
    panels = [" ".join(table.rows[0].section) for table in tables]
    configurations = [
        {
            "panel": panel,
            "title": f"{row.title} {row.group.setting}".strip(),
            "runs": len(row.group.runs),
            "cells": [*row.section, *(_cell(table, name, place) for name in names)],
            **_sigma(row),
        }
        for panel, table in zip(panels, tables, strict=True)
        for place, row in enumerate(table.rows)
    ]
    curves, remarks = _curves([row for table in tables for row in table.rows])
    return {
        "columns": [{"name": name, "text": name in text} for name in ("data", "noise", *names)],
        "configurations": configurations,
        "panels": panels,
        "curves": curves,
        "dissection": _dissection([row for table in tables for row in table.rows]),
        "note": note(tables),
        "remarks": [
            *(f"{panel}: {text}" for panel, table in zip(panels, tables, strict=True) for text in table.remarks),
            *found.left_out,
            *found.repeated,
            *remarks,
        ],
        "slowest": _slowest(groups),
        "unfinished": _unfinished(found),
    }


def _cell(table: Table, name: str, place: int) -> str:
    return table.columns[name][place] if name in table.columns else "" if name in TEXT_COLUMNS else "–"


def _sigma(row: Row) -> dict[str, Any]:
    """σ with the accuracy at the last epoch in percent; empty if either is unknown."""
    sigma, accuracy = row.group.first.identity.get("sln", {}).get("sigma"), row.statistics["test_last"]
    if sigma is None or accuracy is None:
        return {}
    others = {key: value for key, value in row.group.settings.items() if key != "sln.sigma"}
    line = " ".join([row.title, *(f"{row.group.names.get(key, key)}={value}" for key, value in others.items())])
    std = None if accuracy.std is None else 100 * accuracy.std
    return {"sigma": {"line": line, "x": sigma, "mean": 100 * accuracy.mean, "std": std}}


def _curves(rows: Sequence[Row]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Title of a metric → number of the configuration → epochs with mean and standard deviation over runs."""
    curves: dict[str, dict[str, Any]] = {title: {} for title in (*OF_A_ROW.values(), *OF_THE_NETWORK.values())}
    columns: dict[str, Any] = {}
    remarks = []
    shown = {(row.group.runs[0].configuration, row.name) for row in rows}
    for number, row in enumerate(rows):
        key = row.group.runs[0].configuration
        if key not in columns:
            try:
                columns[key] = epochs(row.group)
            except DataError as error:
                columns[key] = {}
                remarks.append(f"no curves: {error}")
        wanted = {metric.format(row.name): title for metric, title in OF_A_ROW.items()}
        # The network's row comes first, but beside its average it is not always shown.
        if row.name == next(name for name in row.group.rows if (key, name) in shown):
            wanted |= OF_THE_NETWORK
        for metric, title in wanted.items():
            values = columns[key].get(metric)
            if values is None:
                continue
            values = values * (100 if metric in FRACTIONS else 1)
            known = np.isfinite(values).all(0)
            if known.any():
                curves[title][str(number)] = {
                    "x": columns[key]["epoch"][0, known].astype(int).tolist(),
                    "mean": _rounded(values[:, known].mean(0)),
                    "std": _rounded(values[:, known].std(0, ddof=1)) if len(values) > 1 else None,
                }
    return {title: lines for title, lines in curves.items() if lines}, remarks


def _dissection(rows: Sequence[Row]) -> dict[str, list[list[float]]]:
    """Number of the configuration → the percentage of each kind of samples in each interval, as in the paper's Fig. 4.

    Rows without samples of correct and wrong labels are left out.
    """
    from slnlab.figures.dissection import INTERVALS, dissect

    dissected = {}
    for number, row in enumerate(rows):
        with suppress(DataError):
            samples = [read_training_samples(Subject(row.group, run, row.name)) for run in row.group.runs]
            if min(len(each.loss) for each in samples) >= INTERVALS:
                shares = np.mean([dissect(each, INTERVALS).shares for each in samples], axis=0)
                dissected[str(number)] = [_rounded(100 * kind) for kind in shares.T]
    return dissected


def _rounded(values: Iterable[float]) -> list[float]:
    """Five digits, so that a page of a thousand runs stays small."""
    return [float(f"{value:.5g}") for value in values]


def _slowest(groups: Sequence[Group]) -> list[list[str]]:
    runs = sorted((run for group in groups for run in group.runs), key=lambda run: -run.result.timing.total_seconds)
    return [
        [
            str(run.directory.path),
            f"{run.result.timing.total_seconds / 60:.1f}",
            f"{run.result.timing.seconds_per_epoch:.2f}",
            str(run.result.environment.get("processor") or ""),
            "; ".join(run.result.environment.get("gpus") or []),
        ]
        for run in runs[:SLOWEST]
    ]


def _unfinished(found: Found) -> list[list[str]]:
    statuses = [run_status(path, ".") for path in found.unfinished]
    return [
        [str(path), status.state, f"{status.epochs}/{status.max_epochs}", status.message]
        for path, status in zip(found.unfinished, statuses, strict=True)
    ]
