"""The two weightings of label correction in the last epochs, as in the paper's Fig. 10."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slnlab.errors import DataError
from slnlab.figures.accuracy import Curve, curve, numbers, picture
from slnlab.figures.panels import found_groups, main_row, other_differences, panels, refuse_other_differences
from slnlab.figures.style import save, style
from slnlab.figures.subjects import at_least
from slnlab.tables.runs import Group

WEIGHTINGS = ("loss", "inverse")
"""Values of correction.weighting: the weight of the given label grows, or falls, with the loss."""

BEFORE = 5


def figure(runs: Sequence[Path], out: Path, before: int = BEFORE, where: Sequence[str] = ()) -> list[str]:
    """Draw test accuracy in the epochs of label correction for both weightings.

    Each data set and noise has a panel, with means over runs and bands of one sample standard deviation. A vertical
    line separates the epochs without correction. Runs of `method=sln` that differ only in the correction are drawn too,
    by their momentum model.

    Args:
        runs: searched for finished runs. Runs without label correction are not drawn.
        out: folder for `correction.png`, `correction.svg` and `correction.csv`, which has a line per curve and epoch.
        before: epochs before the correction that are drawn too, ≥ 0.
        where: conditions on the runs, see `slnlab.tables.selection`.

    Returns:
        Remarks on runs that are not drawn.

    Raises:
        ConfigError: `before` is out of range, or a condition cannot be read.
        DataError: no finished runs have both weightings, runs of one panel differ in more, or a file cannot be written.
    """
    at_least(0, before=before)
    groups, remarks = found_groups(runs, where)
    drawn: list[list[Curve]] = []
    for same in panels(groups):
        corrected = [group for group in same if _correction(group).get("enabled")]
        if not corrected:
            continue
        title = f"{same[0].first.data}, {same[0].noise}"
        if missing := set(WEIGHTINGS) - {_correction(group)["weighting"] for group in corrected}:
            remarks.append(f"not drawn: {title} has no run with correction.weighting={' or '.join(sorted(missing))}")
            continue
        refuse_other_differences(corrected, "correction.weighting")
        try:
            drawn.append(_curves(same, corrected, before))
        except DataError as error:
            remarks.append(f"not drawn: {error}")
    if not drawn:
        searched = ", ".join(map(str, runs))
        needed = f"no finished runs of method=sln_mo_lc correction.weighting={','.join(WEIGHTINGS)} in {searched}"
        raise DataError("\n  ".join([needed, *remarks]))
    with style():
        found, axes = picture(drawn)
        for panel, curves in zip(axes, drawn, strict=True):
            panel.axvline(_last_without(curves[0].group), color="#666666", linewidth=1, linestyle="dotted", zorder=0)
        save(found, out, "correction", list(numbers(drawn)))
    return remarks


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the option of `figure`."""
    parser.add_argument(
        "--before", type=int, default=BEFORE, metavar="N", help=f"epochs before the correction; default: {BEFORE}"
    )


def _correction(group: Group) -> dict[str, Any]:
    return group.first.identity.get("correction", {})


def _last_without(group: Group) -> int:
    """The last epoch without correction."""
    return max(0, group.first.epochs - int(_correction(group)["last_epochs"]))


def _curves(same: Sequence[Group], corrected: Sequence[Group], before: int) -> list[Curve]:
    since = _last_without(corrected[0]) - before + 1
    curves = []
    for group in sorted(corrected, key=lambda group: WEIGHTINGS.index(_correction(group)["weighting"])):
        row, weighting = main_row(group), _correction(group)["weighting"]
        curves.append(curve(group, row, f"{group.rows[row].title} weighting={weighting}", weighting, since))
    for group in same:
        if group.first.method == "sln" and not other_differences(group, corrected[0], "correction.", "method."):
            label = f"{group.rows['momentum'].title}, no correction"
            curves.append(curve(group, "momentum", label, "none", since))
    return curves
