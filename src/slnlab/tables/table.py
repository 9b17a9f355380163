"""Measurements of finished runs: the rows of the tables, with means over seeds and noise draws."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean, stdev
from typing import NamedTuple

from slnlab.record.result import Result
from slnlab.tables.runs import Group

TEST = (
    *("test_last", "test_mean_last_10", "test_best_noisy_val", "test_best_clean_val"),
    *("test_label_wave", "test_oracle"),
)
VAL = ("noisy_val_last", "noisy_val_mean_last_10")
LABELS = ("given_accuracy", "true_accuracy", "memorised", "recovered")
FINDING = ("auroc", "average_precision")
QUALITY = ("balanced_accuracy", "ece", "nll", "brier")
TIMING = ("seconds_per_epoch", "images_per_second", "total_seconds")
MEASURES = (*TEST, *VAL, *LABELS, *FINDING, *QUALITY, *TIMING)
"""Measures that are averaged over the runs of a group. The first three kinds are fractions, shown in percent."""


class Statistic(NamedTuple):
    """Mean and spread over the runs of a group."""

    mean: float
    std: float | None
    """Sample standard deviation (ddof 1); None for a single run."""


@dataclass(frozen=True)
class Row:
    """One row of a configuration's results."""

    group: Group
    name: str
    statistics: dict[str, Statistic | None]
    """Statistics by name in MEASURES, in the units of result.json; None if any run lacks the value."""

    @property
    def title(self) -> str:
        """Title of the row in tables."""
        return self.group.rows[self.name].title

    @property
    def secondary(self) -> bool:
        """True if tables show the row only on request."""
        return self.group.rows[self.name].secondary

    @property
    def section(self) -> tuple[str, str]:
        """Data set and noise; rows of one section share a table."""
        return self.group.first.data, self.group.noise

    @property
    def realised_rate(self) -> float | None:
        """Mean fraction of wrong labels; None if unknown."""
        # Runs of one noise draw share their noise unless its files have changed.
        found = statistic([run.result.label_noise.get("realised_rate") for run in self.group.runs])
        return found.mean if found else None


def measured(result: Result, name: str) -> dict[str, float | None]:
    """The values of a row of a run, by name in MEASURES, in the units of result.json.

    Args:
        result: of the run.
        name: of the row, e.g. momentum.
    """
    found = result.rows[name]
    test = found.test_accuracy
    val = test.best_noisy_val if test else None
    noisy_val = found.noisy_val_accuracy
    return {
        "test_last": test.last if test else None,
        "test_mean_last_10": test.mean_last_10 if test else None,
        "test_best_noisy_val": val.accuracy if val else None,
        "test_best_clean_val": test.best_clean_val.accuracy if test and test.best_clean_val else None,
        "test_label_wave": test.label_wave.accuracy if test and test.label_wave else None,
        "test_oracle": test.oracle.accuracy if test else None,
        "noisy_val_last": noisy_val.last if noisy_val else None,
        "noisy_val_mean_last_10": noisy_val.mean_last_10 if noisy_val else None,
        **found.findings.model_dump(),
        **{name: getattr(found.test_quality, name, None) for name in QUALITY},
        **result.timing.model_dump(),
    }


def statistic(values: Sequence[float | None]) -> Statistic | None:
    """Mean and sample standard deviation; None if there is no value or one is missing."""
    numbers = [value for value in values if value is not None]
    if not numbers or len(numbers) < len(values):
        return None
    return Statistic(fmean(numbers), stdev(numbers) if len(numbers) > 1 else None)


def make_rows(groups: Iterable[Group]) -> list[Row]:
    """A row per group and row of its results, in the order of the groups. Groups of one method are ordered by title."""
    rows = []
    for _, same in groupby(groups, key=lambda group: (group.first.data, group.noise, group.first.method)):
        some = []
        for group in same:
            for name in group.rows:
                runs = [measured(run.result, name) for run in group.runs]
                statistics = {measure: statistic([run[measure] for run in runs]) for measure in MEASURES}
                some.append(Row(group, name, statistics))
        rows += sorted(some, key=lambda row: row.title)  # stable: settings stay in order
    return rows


def sections(rows: Sequence[Row], secondary: bool = False) -> list[list[Row]]:
    """The rows of each table: one table per data set and noise.

    Args:
        rows: from `make_rows`.
        secondary: keep secondary rows too.
    """
    shown = [row for row in rows if secondary or not row.secondary]
    return [list(same) for _, same in groupby(shown, key=lambda row: row.section)]


def accuracy_measure(rows: Sequence[Row]) -> str:
    """The measure that compares the rows of a table: test accuracy at the last epoch.

    Runs of a study do not read the test set; their measure is the accuracy on held-out noisy labels.
    """
    return "test_last" if any(row.statistics["test_last"] for row in rows) else "noisy_val_last"
