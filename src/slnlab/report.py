"""Finished runs as tables and figures: `python -m slnlab.report runs --out report`.

Nothing here imports torch, and matplotlib only to draw.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from slnlab.analysis.runs import find_runs, group_runs
from slnlab.analysis.table import make_rows, markdown, write_results, write_table
from slnlab.errors import DataError, SlnlabError


def report(paths: Sequence[Path], out: Path | None = None, secondary: bool = False) -> tuple[str, int]:
    """Tables of all finished runs at or below `paths`.

    A result that cannot be read, or that contradicts another one of the same configuration and seed, is left out
    and named in the text.

    Args:
        paths: directories, searched for `result.json`, or such files.
        out: a directory, made if missing, that gets
            `results.csv` (a line per run and evaluator, values as in result.json),
            `table.csv` (a line per configuration and evaluator, mean and std over seeds),
            `table.md` (the text) and `curves.png` (accuracy and losses by epoch).
        secondary: show also the rows and lines "… (network)", of the network of a run that is about its momentum
            model. The CSV files always hold them.

    Returns:
        (tables in Markdown and a remark on every run that is not in them, number of results left out).

    Raises:
        DataError: a path that does not exist, no finished run, or `out` cannot be written.
    """
    found = find_runs(paths)
    groups = group_runs(found.runs)
    rows = make_rows(groups)
    parts = [markdown(rows, secondary), *found.remarks()]
    if out is None:
        return "\n\n".join(parts), len(found.left_out)

    from slnlab.analysis.curves import draw_curves

    try:
        out.mkdir(parents=True, exist_ok=True)
        write_results(out / "results.csv", groups)
        write_table(out / "table.csv", rows)
        text = "\n\n".join([*parts, *draw_curves(groups, out / "curves.png", secondary)])
        (out / "table.md").write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror})") from error
    return text, len(found.left_out)


def main() -> None:
    """The command line. Its exit code is 1 also when a result had to be left out of the tables."""
    parser = argparse.ArgumentParser("python -m slnlab.report", description="Finished runs as tables and figures.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUNS", help="searched recursively for result.json")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write results.csv, table.csv, table.md and curves.png there"
    )
    parser.add_argument("--all", action="store_true", help='show the rows "… (network)" too; the CSV always has them')
    arguments = parser.parse_args()
    try:
        text, left_out = report(arguments.runs, arguments.out, arguments.all)
    except SlnlabError as error:
        sys.exit(f"error: {error}")
    print(text)
    if left_out:
        sys.exit(f"error: {left_out} result{'s' if left_out > 1 else ''} left out, see above")


if __name__ == "__main__":
    main()
