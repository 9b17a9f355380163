"""Tables and figures of finished runs: `python -m slnlab.report runs --out report`.

Nothing here imports torch. Only drawing imports matplotlib.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from slnlab.analysis.costs import read_costs
from slnlab.analysis.runs import find_runs, group_runs
from slnlab.analysis.table import make_rows, markdown, write_results, write_table
from slnlab.errors import DataError, SlnlabError
from slnlab.text.terminal import print_anywhere, quiet_on_broken_pipe


def report(
    paths: Sequence[Path],
    out: Path | None = None,
    secondary: bool = False,
    costs: Path | None = None,
    seeds: Collection[int] | None = None,
) -> tuple[str, int]:
    """Make tables of all finished runs at or below `paths`.

    The tables leave out unreadable results, and results that contradict another one of the same configuration and
    seeds. The text names them.

    Args:
        paths: directories to search for `result.json`, or such files.
        out: output directory, made if missing, for
            `results.csv` (a line per run and row, values as in result.json),
            `table.csv` (a line per configuration and row, mean and std over seeds and noise draws),
            `table.md` (the text) and `curves.png` (accuracy and losses by epoch).
        secondary: also show the rows and lines "… (network)", the network beside its momentum model. The CSV files
            always hold them.
        costs: a file of `python -m benchmarks.methods --json`; its cost ratios become a column of the tables.
        seeds: seeds of the shown runs; None: all.

    Returns:
        (tables in Markdown with a remark on every missing run, number of results left out).

    Raises:
        DataError: a path does not exist, there is no finished run (with one of `seeds`), `costs` has another format, or
            `out` cannot be written.
    """
    ratios = None if costs is None else read_costs(costs)
    found = find_runs(paths)
    runs = [run for run in found.runs if seeds is None or run.result.seed in seeds]
    if not runs:
        known = ", ".join(map(str, sorted({run.result.seed for run in found.runs})))
        raise DataError(f"seeds: no finished run with {', '.join(map(str, seeds or ()))}; there are runs with {known}")
    groups = group_runs(runs)
    rows = make_rows(groups)
    parts = [markdown(rows, secondary, ratios), *found.remarks()]
    if out is None:
        return "\n\n".join(parts), len(found.left_out)

    from slnlab.figures.curves import draw_curves

    try:
        out.mkdir(parents=True, exist_ok=True)
        write_results(out / "results.csv", groups)
        write_table(out / "table.csv", rows)
        text = "\n\n".join([*parts, *draw_curves(groups, out / "curves.png", secondary)])
        (out / "table.md").write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror})") from error
    return text, len(found.left_out)


def _seeds(text: str) -> list[int]:
    try:
        return [int(seed) for seed in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: seeds are whole numbers with commas between them") from None


@quiet_on_broken_pipe
def main(arguments: Sequence[str] | None = None, program: str = "python -m slnlab.report") -> None:
    """Run the command line. The exit code is also 1 if the tables leave out a result."""
    print_anywhere()
    parser = argparse.ArgumentParser(program, description="Make tables and figures of finished runs.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUNS", help="searched recursively for result.json")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write results.csv, table.csv, table.md and curves.png there"
    )
    parser.add_argument("--all", action="store_true", help='show the rows "… (network)" too; the CSV always has them')
    parser.add_argument(
        "--costs", type=Path, metavar="JSON", help="file of `python -m benchmarks.methods --json`; adds a cost column"
    )
    parser.add_argument(
        "--seeds", type=_seeds, metavar="0,1,…", help="seeds of the shown runs, the same for all methods"
    )
    asked = parser.parse_args(arguments)
    try:
        text, left_out = report(asked.runs, asked.out, asked.all, asked.costs, asked.seeds)
    except SlnlabError as error:
        sys.exit(f"error: {error}")
    print(text)
    if left_out:
        sys.exit(f"error: {left_out} result{'s' if left_out > 1 else ''} left out, see above")


if __name__ == "__main__":
    main()
