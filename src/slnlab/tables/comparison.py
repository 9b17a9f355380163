"""Differences between the rows of a table and a reference row, in pairs of runs on the same seed and noisy labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from slnlab.config.identity import flat_identity
from slnlab.errors import ConfigError
from slnlab.tables.settings import as_typed
from slnlab.tables.statistics import Difference, Summary, holm, paired, welch
from slnlab.tables.table import Row, accuracy_measure, measured

MEASURED = {"test_last": "test accuracy at the last epoch", "noisy_val_last": "accuracy on held-out noisy labels"}


@dataclass(frozen=True)
class Comparison:
    """A row beside its reference, in percentage points. Without a reference or pairs, `remark` has the reason."""

    row: Row
    measure: str
    reference: Row | None = None
    mean: float | None = None
    """Mean of `row − reference`, first over the seeds of a noise draw, then over the draws."""
    interval: Difference | None = None
    """95 % interval and uncorrected p-value; None with a single unit."""
    pairs: int = 0
    """Number of pairs of runs."""
    units: int = 0
    """Number of differences that count as independent: noise draws if there are several, else seeds."""
    unit: str = ""
    """`noise draw` or `seed`."""
    p: float | None = None
    """p-value corrected by Holm's method over the comparisons of the table."""
    remark: str = ""


def reference_names(rows: Sequence[Row], name: str) -> set[str]:
    """The titles that a reference's name means: a title as in the tables, or else the one row of a method.

    Args:
        rows: of all tables.
        name: a title in any case, e.g. `SLN-MO`, or a method, e.g. `ce`.

    Raises:
        ConfigError: no row has this name, or a method has several rows.
    """
    titles = {row.title for row in rows if row.title.lower() == name.lower()}
    titles = titles or {row.title for row in rows if row.group.first.method == name and not row.secondary}
    if len(titles) == 1:
        return titles
    known = ", ".join(dict.fromkeys(row.title for row in rows))
    why = f"has the rows {', '.join(sorted(titles))}; name one of them" if titles else f"is not among the rows {known}"
    raise ConfigError(f"compare={name}: {why}")


def compare(rows: Sequence[Row], titles: set[str]) -> list[Comparison]:
    """Compare each row of a table with its reference, by the accuracy at the last epoch.

    Args:
        rows: of one table.
        titles: of the references, from `reference_names`.
    """
    measure = accuracy_measure(rows)
    references = [row for row in rows if row.title in titles]
    found = [_compared(row, references, measure) for row in rows]
    tested = [number for number, each in enumerate(found) if each.interval]
    corrected = holm([each.interval.p for each in found if each.interval])
    for number, p in zip(tested, corrected, strict=True):
        found[number] = replace(found[number], p=p)
    return found


def _compared(row: Row, references: Sequence[Row], measure: str) -> Comparison:
    if any(row is reference for reference in references):
        return Comparison(row, measure, row, remark="reference")
    if not references:
        return Comparison(row, measure, remark="the reference has no run on this data and noise")
    alike = _alike(row, references)
    if len(alike) != 1:
        why = f"{len(alike)} of its {len(references)} settings fit this row" if alike else "no setting fits this row"
        return Comparison(row, measure, remark=f"the reference has several settings, and {why}; choose with --where")
    (reference,) = alike
    if not (values_by_run(row, measure) and values_by_run(reference, measure)):
        return Comparison(row, measure, reference, remark=f"no {MEASURED[measure]}")
    differences, pairs, unit = _differences(row, reference, measure)
    if not differences:
        return Comparison(row, measure, reference, remark="no run of the reference has the same seed and noisy labels")
    mean, interval = fmean(differences), paired(differences)
    return Comparison(row, measure, reference, mean, interval, pairs, len(differences), unit)


def _alike(row: Row, references: Sequence[Row]) -> list[Row]:
    """The references that have the row's values of all keys by which references differ from each other.

    Without such a reference, only the keys count by which the row's method differs from itself too: a learning rate
    that was tuned for the reference alone does not keep it from being compared.
    """
    mine = flat_identity(row.group.first.identity)

    def fits(other: Row, keys: Container[str]) -> bool:
        settings = other.group.settings
        return all(as_typed(mine.get(k, "unset")) == as_typed(v) for k, v in settings.items() if k in keys)

    exact = [other for other in references if fits(other, other.group.settings)]
    return exact or [other for other in references if fits(other, row.group.settings)]


def _differences(row: Row, reference: Row, measure: str) -> tuple[list[float], int, str]:
    """Independent differences in percentage points, the number of pairs behind them, and what a difference stands for.

    Seeds crossed with noise draws are no independent pairs: runs of one draw share its wrong labels. So differences
    are averaged within a draw, if there are several draws.
    """
    mine, theirs = values_by_run(row, measure), values_by_run(reference, measure)
    differences = {pair: value - theirs[pair] for pair, value in mine.items() if pair in theirs}
    units, unit = _by_draw(differences)
    return units, len(differences), unit


def values_by_run(row: Row, measure: str) -> dict[tuple[int, str | int | None], float]:
    """Percent by (seed, noisy labels), of the runs in which it was measured."""
    values = {run.pair: measured(run.result, row.name)[measure] for run in row.group.runs}
    return {pair: 100 * value for pair, value in values.items() if value is not None}


def _by_draw(values: dict[tuple[int, str | int | None], float]) -> tuple[list[float], str]:
    draws = defaultdict(list)
    for (_, labels), value in values.items():
        draws[labels].append(value)
    if len(draws) > 1:
        return [fmean(same) for same in draws.values()], "noise draw"
    return list(values.values()), "seed"


def best_and_ties(rows: Sequence[Row]) -> set[int]:
    """Places of the row with the best accuracy, and of those whose 95 % interval of the difference from it holds zero.

    The differences are paired if two pairs can be made; otherwise Welch's interval counts. Units are as in `compare`.
    A row without an interval is no tie, as one with equal differences (see `paired`).
    """
    measure = accuracy_measure(rows)
    means = {place: found.mean for place, row in enumerate(rows) if (found := row.statistics[measure])}
    if not means:
        return set()
    best = max(means, key=means.__getitem__)
    ties = {best} | {place for place in means if means[place] == means[best]}
    for place in means.keys() - ties:
        differences, _, _ = _differences(rows[place], rows[best], measure)
        difference = paired(differences)
        if len(differences) < 2:
            ours, theirs = (Summary.of(_by_draw(values_by_run(rows[at], measure))[0]) for at in (place, best))
            difference = welch(ours, theirs)
        if difference and difference.low <= 0 <= difference.high:
            ties.add(place)
    return ties
