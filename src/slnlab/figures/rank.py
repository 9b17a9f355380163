"""Average ranks of methods over data sets, noises and draws of labels, with the critical difference (Demšar, 2006)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from matplotlib.figure import Figure

from slnlab.errors import ConfigError, DataError
from slnlab.figures.panels import found_groups
from slnlab.figures.style import COLOURS, DPI, WIDTH, save, style
from slnlab.tables.ranks import Ranks, accuracies_by_block, average_ranks
from slnlab.tables.table import make_rows


def figure(runs: Sequence[Path], out: Path, where: Sequence[str] = ()) -> list[str]:
    """Draw the average rank of each method by its test accuracy at the last epoch; 1 is the best.

    A block is a draw of noisy labels of a data set and noise, or a seed if all runs share their labels. Methods within
    the critical difference of Nemenyi's test from the best one are not worse than it by more than chance.

    Args:
        runs: searched for finished runs.
        out: folder for `rank.png`, `rank.svg` and `rank.csv`, which has a line per method.
        where: conditions on the runs, see `slnlab.tables.selection`.

    Returns:
        Remarks: what is not ranked, and the tests.

    Raises:
        ConfigError: a condition cannot be read.
        DataError: fewer than two methods have runs in all blocks, or a file cannot be read or written.
    """
    groups, remarks = found_groups(runs, where)
    accuracies, lacking = accuracies_by_block([row for row in make_rows(groups) if not row.secondary])
    try:
        ranks = average_ranks(accuracies)
    except ConfigError as error:
        raise DataError("\n  ".join([str(error), *lacking, *remarks])) from error
    with style():
        save(_picture(ranks), out, "rank", _numbers(ranks, accuracies))
    return [*remarks, *lacking, _summary(ranks)]


def _summary(ranks: Ranks) -> str:
    best = next(iter(ranks.average))
    if ranks.difference is None:
        return f"{best} is best in the only block; one block has no critical difference"
    near = [name for name, rank in ranks.average.items() if rank < ranks.average[best] + ranks.difference]
    test = "" if ranks.p is None else f"; Friedman's test that all are alike: p = {ranks.p:.2g}"
    return (
        f"{best} has the best average rank, {ranks.average[best]:.1f} of {len(ranks.average)}, over {ranks.blocks} "
        f"blocks; {len(near) - 1} others are within the critical difference of {ranks.difference:.1f}{test}"
    )


def _numbers(ranks: Ranks, accuracies: Mapping[str, Sequence[float]]) -> list[dict[str, object]]:
    return [
        {
            "label": name,
            "average_rank": rank,
            "methods": len(ranks.average),
            "blocks": ranks.blocks,
            "critical_difference": ranks.difference,
            "friedman_p": ranks.p,
            "test_last_percent_mean": fmean(accuracies[name]),
        }
        for name, rank in ranks.average.items()
    ]


def _picture(ranks: Ranks) -> Figure:
    names, places = list(ranks.average), list(ranks.average.values())
    picture = Figure(figsize=(WIDTH * 0.8, 1.2 + 0.19 * len(names)), dpi=DPI, layout="constrained")
    axes = picture.subplots()
    limit = places[0] if ranks.difference is None else places[0] + ranks.difference
    if ranks.difference is not None:
        axes.axvspan(places[0], limit, color=COLOURS[5], alpha=0.25, linewidth=0)
        axes.set_title(f"shaded: within the critical difference of {ranks.difference:.1f}", fontsize=9)
    for height, place in enumerate(places):
        near = place <= limit
        axes.plot([1, place], [height, height], color="#cccccc", linewidth=1, zorder=1)
        look = {"marker": "o", "color": COLOURS[1]} if near else {"marker": "D", "color": COLOURS[0]}
        axes.plot(place, height, markersize=5, linestyle="none", **look)  # type: ignore[arg-type]
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.6)  # the best on top
    axes.set_xlim(1 - 0.01 * len(names), None)  # room for half a marker
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(f"average rank over {ranks.blocks} draws of noisy labels or seeds (1 is the best)")
    return picture
