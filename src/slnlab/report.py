"""Tables and figures of finished runs: `python -m slnlab.report runs --out report`.

Nothing here imports torch. Only drawing imports matplotlib.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from slnlab.errors import DataError
from slnlab.record.archive import write_archive
from slnlab.tables.costs import read_costs
from slnlab.tables.csv_files import write_comparison, write_results, write_table
from slnlab.tables.latex import latex
from slnlab.tables.layout import make_tables
from slnlab.tables.markdown import markdown
from slnlab.tables.runs import find_runs, group_runs
from slnlab.tables.selection import parse, select, select_unfinished, tested
from slnlab.tables.table import make_rows
from slnlab.text.terminal import command

FORMATS = ("png", "svg", "pdf")


def report(
    paths: Sequence[Path],
    out: Path | None = None,
    *,
    secondary: bool = False,
    costs: Path | None = None,
    where: Sequence[str] = (),
    reference: str | None = None,
    formats: Sequence[str] = ("png",),
    page: Path | None = None,
    quality: bool = False,
    archive: Path | None = None,
) -> tuple[str, int]:
    """Make tables of all finished runs at or below `paths`.

    The tables leave out unreadable results, and results that contradict another one of the same configuration and
    seeds. The text names them. It counts a study's trials, which are left out beside its final runs.

    Args:
        paths: directories to search for `result.json`, or such files.
        out: output directory, made if missing, for
            `results.csv` (a line per run and row, values as in result.json),
            `table.csv` (a line per configuration and row, mean and std over seeds and noise draws),
            `table.md` (the text), `table.tex` (the tables for LaTeX), with a reference `comparison.csv` (a line per
            row of the tables), and `curves.<format>` (accuracy and losses by epoch).
        secondary: also show the rows and lines "… (network)", the network beside its momentum model. `results.csv` and
            `table.csv` always hold them.
        costs: a file of `python -m benchmarks.methods --json`; its cost ratios become a column of the tables.
        where: `key=value` or `key=value,value`; only runs that fit all count. See `slnlab.tables.selection`.
        reference: title of a row or name of a method; each row is compared with it. See `slnlab.tables.comparison`.
        formats: of the picture: png, svg, pdf.
        page: HTML file with tables and charts to explore; see `slnlab.page`.
        quality: add recall and calibration to the tables. The page always has them.
        archive: file for the small files of these runs, shown or not; see `slnlab.record.archive`.

    Returns:
        (tables in Markdown with a remark on every missing run, number of results left out).

    Raises:
        ConfigError: `where` or `reference` names what no run has.
        DataError: a path does not exist, there is no finished run (that fits `where`), `costs` has another format, or
            `out`, `page` or `archive` cannot be written.
        SlnlabError: `page` needs the extra `html`.
    """
    ratios = None if costs is None else read_costs(costs)
    conditions = parse(where)
    found = find_runs(paths)
    fitting = select(found.runs, conditions)
    runs = tested(fitting, conditions)
    groups = group_runs(runs)
    unfinished = select_unfinished(found.unfinished, conditions)
    found = replace(found, unfinished=unfinished, trials=len(fitting) - len(runs))
    rows = make_rows(groups)
    tables = make_tables(rows, secondary, ratios, reference, quality)
    parts = [markdown(tables), *found.remarks()]
    if archive is not None:
        write_archive(archive, ((run.directory, run.result.identity, run.result.group) for run in fitting))
    if page is not None:
        from slnlab.page.writing import write_report

        write_report(page, make_tables(rows, secondary, ratios, reference, quality=True), found, groups)
    if out is None:
        return "\n\n".join(parts), len(found.left_out)

    from slnlab.figures.curves import draw_curves

    try:
        out.mkdir(parents=True, exist_ok=True)
        write_results(out / "results.csv", groups)
        write_table(out / "table.csv", rows)
        if reference is not None:
            write_comparison(out / "comparison.csv", [each for table in tables for each in table.comparisons])
        (out / "table.tex").write_text(latex(tables), encoding="utf-8", errors="backslashreplace")
        text = "\n\n".join([*parts, *draw_curves(groups, out, secondary, formats)])
        (out / "table.md").write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror})") from error
    return text, len(found.left_out)


def _formats(text: str) -> list[str]:
    formats = text.split(",")
    if unknown := [each for each in formats if each not in FORMATS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(FORMATS)}")
    return formats


def _arguments(arguments: Sequence[str] | None, program: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(program, description="Make tables and figures of finished runs.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUNS", help="searched recursively for result.json")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write tables (CSV, Markdown, LaTeX) and curves there")
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="only such runs: noise=sym, seed=0,1, …; repeatable",
    )
    parser.add_argument(
        "--compare", metavar="METHOD", help="add paired differences from this method (ce) or row (SLN-MO)"
    )
    parser.add_argument(
        "--format", type=_formats, default=["png"], metavar="png,svg,pdf", help="formats of the figures; default: png"
    )
    parser.add_argument(
        "--html", action="store_true", help="write report.html, a page to explore, to --out or the current folder"
    )
    parser.add_argument(
        "--archive", type=Path, metavar="FILE.tar.xz", help="keep these runs: their text files, without weights"
    )
    parser.add_argument("--all", action="store_true", help='show the rows "… (network)" too; the CSV always has them')
    parser.add_argument(
        "--costs", type=Path, metavar="JSON", help="file of `python -m benchmarks.methods --json`; adds a cost column"
    )
    parser.add_argument(
        "--quality",
        action="store_true",
        help="add balanced accuracy, ECE, NLL, Brier score and the recall of each class",
    )
    return parser.parse_args(arguments)


@command
def main(arguments: Sequence[str] | None = None, program: str = "python -m slnlab.report") -> None:
    """Run the command line. The exit code is also 1 if the tables leave out a result."""
    asked = _arguments(arguments, program)
    text, left_out = report(
        asked.runs,
        asked.out,
        secondary=asked.all,
        costs=asked.costs,
        where=asked.where,
        reference=asked.compare,
        formats=asked.format,
        page=(asked.out or Path()) / "report.html" if asked.html else None,
        quality=asked.quality,
        archive=asked.archive,
    )
    print(text)
    if left_out:
        sys.exit(f"error: {left_out} result{'s' if left_out > 1 else ''} left out, see above")


if __name__ == "__main__":
    main()
