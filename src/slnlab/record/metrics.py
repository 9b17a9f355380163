"""`metrics.csv`: a row per epoch, and its summaries for the result."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Literal

from slnlab.record.label_wave import stopping_epoch
from slnlab.record.result import ChosenEpoch, TestAccuracy, Timing, ValidationAccuracy


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The rows of `metrics.csv`, one per epoch, without blank cells: epochs without evaluation lack its metrics.

    Raises:
        OSError: the file cannot be read.
        ValueError, TypeError: a cell is no number, or missing.
    """
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: float(value) for key, value in row.items() if value != ""} for row in csv.DictReader(file)]


def summarise_test(rows: Sequence[dict[str, float]], weights: str) -> TestAccuracy | None:
    """The reported test accuracies of a run; None if it was never tested.

    Label Wave goes by the predictions of the first network, and chooses the epoch of all weights.

    Args:
        rows: one per epoch, with `epoch`, and after an evaluation with `test/<weights>/accuracy`,
            `val/<weights>/accuracy` if samples were held out, and `val_clean/<weights>/accuracy` with a clean
            validation set. The last ten epochs are evaluated.
        weights: e.g. `network`. A momentum model's accuracy on the clean validation set chooses the epoch of its
            network too, as in the paper's Clothing1M results.
    """
    stopped = stopping_epoch(rows)
    test, val, clean = (f"{split}/{weights}/accuracy" for split in ("test", "val", "val_clean"))
    rows = [row for row in rows if test in row]
    if not rows:
        return None
    of_momentum = clean.replace("/network", "/momentum")
    clean = of_momentum if of_momentum in rows[0] else clean

    def at(row: dict[str, float]) -> ChosenEpoch:
        return ChosenEpoch(accuracy=row[test], epoch=int(row["epoch"]))

    def at_best(key: str) -> ChosenEpoch:
        return at(max(rows, key=lambda row: row[key]))  # the first of equals

    until = [row for row in rows if stopped is not None and row["epoch"] <= stopped]
    return TestAccuracy(
        last=rows[-1][test],
        mean_last_10=fmean(row[test] for row in rows[-10:]),
        best_noisy_val=at_best(val) if val in rows[0] else None,
        best_clean_val=at_best(clean) if clean in rows[0] else None,
        label_wave=at(until[-1]) if until else None,
        oracle=at_best(test),
    )


def summarise_validation(
    rows: Sequence[dict[str, float]], weights: str, split: Literal["val", "val_clean"] = "val"
) -> ValidationAccuracy | None:
    """The validation accuracies of a run; None without validation samples.

    Args:
        rows: one per epoch, with `epoch`, and after an evaluation with `<split>/<weights>/accuracy`.
        weights: e.g. `network`.
        split: `val`, the held-out noisy labels, or `val_clean`, a clean validation set.
    """
    val = f"{split}/{weights}/accuracy"
    rows = [row for row in rows if val in row]
    if not rows:
        return None
    best = max(rows, key=lambda row: row[val])  # the first of equals
    return ValidationAccuracy(
        last=rows[-1][val],
        mean_last_10=fmean(row[val] for row in rows[-10:]),
        best=ChosenEpoch(accuracy=best[val], epoch=int(best["epoch"])),
    )


def summarise_timing(rows: Sequence[dict[str, float]]) -> Timing:
    """Training times of a run. Medians keep one disturbed epoch from counting.

    Args:
        rows: one per epoch, with `seconds` and `images_per_second`; at least one.
    """
    seconds = [row["seconds"] for row in rows]
    return Timing(
        seconds_per_epoch=median(seconds),
        images_per_second=median(row["images_per_second"] for row in rows),
        total_seconds=math.fsum(seconds),
    )
