"""Test accuracy against σ, as in the paper's Fig. 6. `python -m slnlab.analysis.sigma RUNS --out FILE.png`.

A small σ overfits, a large one underfits. The best σ depends on the noise.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from slnlab.analysis.curves import STYLE, WIDTH, place_legend
from slnlab.analysis.runs import FinishedRun, Group, differing_keys, find_runs
from slnlab.analysis.table import Row, make_rows, write_csv
from slnlab.config.container import flat
from slnlab.config.identity import digest
from slnlab.errors import DataError, SlnlabError
from slnlab.text.terminal import print_anywhere, quiet_on_broken_pipe

FORMATS = (".png", ".pdf", ".svg")
COLOURS = ("#56B4E9", "#0072B2", "#E69F00", "#D55E00", "#009E73", "#CC79A7")
"""Colours of the rows in order. SLN and SLN-MO are blue, as in the curves."""


def sigma_plot(paths: Sequence[Path], out: Path) -> tuple[list[str], int]:
    """Draw test accuracy at the last epoch against σ, and write the numbers beside the picture as CSV.

    Each data set and noise has a panel, with mean ± sample standard deviation over seeds.

    Args:
        paths: searched for finished runs. Runs outside a sweep over σ are not drawn.
        out: the picture; its suffix is one of FORMATS.

    Returns:
        (remarks on runs that are not drawn, number of results left out).

    Raises:
        DataError: no finished runs with test accuracies differ in σ, runs of one panel differ in more than σ and
            seed, or `out` cannot be written.
    """
    if out.suffix.lower() not in FORMATS:
        raise DataError(f"{out}: a picture ends in one of {', '.join(FORMATS)}")
    found = find_runs(paths)
    rows = make_rows(sweeps(found.runs))
    rows = [row for row in rows if row.statistics["test_last"]]
    if not rows:
        raise DataError(
            f"no finished runs with test accuracies that differ in sln.sigma in {', '.join(map(str, paths))}"
        )
    lines = [_numbers(row) for row in rows]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_csv(out.with_suffix(".csv"), lines)
        _draw(rows, out)
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror})") from error
    drawn = {run.directory.path for row in rows for run in row.group.runs}
    remarks = found.remarks()
    if missing := len(found.runs) - len(drawn):
        remarks.append(
            f"not drawn: {missing} run{'s' if missing > 1 else ''} without another that differs only in sln.sigma"
        )
    return remarks, len(found.left_out)


def sigma(group: Group) -> float:
    """The σ of a group."""
    return float(group.first.identity["sln"]["sigma"])


def sweeps(runs: Iterable[FinishedRun]) -> list[Group]:
    """Runs that differ in σ from another run and otherwise agree, grouped over seeds, ordered by data, noise and σ.

    Raises:
        DataError: one data set and noise has two sweeps; names the keys in which they differ.
    """
    by_rest: dict[str, dict[float, dict[int, FinishedRun]]] = defaultdict(lambda: defaultdict(dict))
    for run in runs:
        rest = flat(run.result.identity)
        value = float(rest.pop("sln.sigma"))
        del rest["seed"]
        by_rest[digest(rest)][value].setdefault(run.result.seed, run)
    panels: dict[tuple[str, str, float], list[Group]] = {}
    for by_sigma in by_rest.values():
        if len(by_sigma) < 2:
            continue
        groups = [Group(tuple(by_seed[seed] for seed in sorted(by_seed))) for _, by_seed in sorted(by_sigma.items())]
        first = groups[0].first
        other = panels.setdefault((first.data, first.noise, first.noise_rate), groups)
        if other is not groups:
            keys = differing_keys(flat(first.identity), flat(other[0].first.identity)) - {"sln.sigma"}
            raise DataError(
                f"{first.data}, {groups[0].noise}: the runs differ not only in sln.sigma, but also in "
                f"{', '.join(sorted(keys))}; give the directories of one sweep"
            )
    return [group for _, groups in sorted(panels.items()) for group in groups]


def _numbers(row: Row) -> dict[str, object]:
    first, value = row.group.first, row.statistics["test_last"]
    assert value
    return {
        "data": first.data,
        "noise": first.noise,
        "noise_rate": first.noise_rate,
        "label": row.title,
        "evaluator": row.name,
        "sigma": sigma(row.group),
        "seeds": " ".join(map(str, row.group.seeds)),
        "num_seeds": len(row.group.seeds),
        "test_last_percent_mean": 100 * value.mean,
        "test_last_percent_std": None if value.std is None else 100 * value.std,
    }


def _draw(rows: Sequence[Row], out: Path) -> None:
    panels = [list(same) for _, same in groupby(rows, key=lambda row: (row.group.first.data, row.group.noise))]
    titles = list(dict.fromkeys(row.title for row in rows))
    styles = dict(zip(titles, zip(COLOURS * len(titles), "osD^vP" * len(titles), strict=True), strict=False))
    place = {value: x for x, value in enumerate(sorted({sigma(row.group) for row in rows}))}
    wide = min(len(panels), 4)
    high = -(-len(panels) // wide)

    with mpl.rc_context(STYLE):
        size = (WIDTH if wide > 1 else WIDTH / 2, 3.0 * high)
        figure = Figure(figsize=size, dpi=200, layout="constrained")
        grid = figure.subplots(high, wide, squeeze=False, sharey=True)
        for axes, panel in zip(grid.flat, panels, strict=False):
            for title, line in groupby(panel, key=lambda row: row.title):
                points = [(place[sigma(row.group)], row.statistics["test_last"]) for row in line]
                colour, marker = styles[title]
                aside = 0.04 * (2 * titles.index(title) - len(titles) + 1)  # keeps bars from hiding each other
                axes.errorbar(
                    [x + aside for x, _ in points],
                    [100 * value.mean for _, value in points if value],
                    [100 * (value.std or 0) for _, value in points if value],
                    label=title, color=colour, marker=marker, markersize=4.5, capsize=2.5, linewidth=1.5,
                )  # fmt: skip
            axes.set(title=f"{panel[0].group.first.data}\n{panel[0].group.noise}", xlabel="σ")
            axes.set_xticks(list(place.values()), [f"{value:g}" for value in place])
        for axes in grid[:, 0]:
            axes.set_ylabel("test accuracy (%)")
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        handles = {label: h for axes in grid.flat for h, label in zip(*axes.get_legend_handles_labels(), strict=True)}
        place_legend(figure, handles)
        figure.savefig(out)


@quiet_on_broken_pipe
def main() -> None:
    """The command line. Its exit code is 1 after an error, and if a result was left out."""
    print_anywhere()
    parser = argparse.ArgumentParser("python -m slnlab.analysis.sigma", description="Test accuracy against σ.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUNS", help="searched recursively for result.json")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.png", help="the numbers go to FILE.csv")
    arguments = parser.parse_args()
    try:
        remarks, left_out = sigma_plot(arguments.runs, arguments.out)
    except SlnlabError as error:
        sys.exit(f"error: {error}")
    print("\n".join([f"{arguments.out} and {arguments.out.with_suffix('.csv')} written", *remarks]))
    if left_out:
        sys.exit(f"error: {left_out} result{'s' if left_out > 1 else ''} left out, see above")


if __name__ == "__main__":
    main()
