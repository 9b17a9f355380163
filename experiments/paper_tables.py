"""The paper's Tables 1 to 4 beside an independent re-run and our runs, with a verdict for every cell.

A folder holds `paper.csv`, a line per cell: what the paper prints, and the `label`, `noise`, `part` and `epochs` by
which a line of `results.csv` belongs to the cell. A part is a subfolder with a `results.csv` of its own. Without
results all cells are *not run*.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evidence import EXPERIMENTS, Line, percent, read, results, table

from slnlab.errors import DataError
from slnlab.tables.statistics import Summary, verdict, welch

MEASURES = {
    "table1_cifar10": "test_last",
    "table2_cifar100": "test_last",
    "table3_clothing1m": "test_best_clean_val",  # the protocol's choice of an epoch
    "table4_sln_first": "test_last",
}
"""Folder → the compared column of results.csv."""


@dataclass(frozen=True)
class Cell:
    """A cell of the paper's table with our runs of it.

    Args:
        paper: its line of paper.csv; accuracies in percent.
        values: test accuracies of our runs in percent.
    """

    paper: Line
    values: tuple[float, ...]

    @property
    def published(self) -> Summary:
        """The paper's mean, standard deviation and number of runs."""
        std = self.paper["std"]
        return Summary(float(self.paper["mean"]), float(std) if std else None, int(self.paper["n"]))

    @property
    def ours(self) -> Summary | None:
        """The mean of our runs; None: not run."""
        return Summary.of(self.values) if self.values else None

    @property
    def verdict(self) -> str:
        """`agrees`, `above`, `below` (Welch's test at 5 %), `not run`, or `single values`, which no test compares."""
        if self.ours and self.ours.std is None and self.published.std is None:
            return "single values"
        return verdict(self.ours, self.published)


def cells(folder: Path, measure: str = "test_last") -> tuple[list[Cell], list[Line]]:
    """The cells of a table, and the lines of results.csv of runs without a cell.

    Raises:
        DataError: runs of two configurations belong to one cell.
    """
    lines = results(folder)
    found, used = [], set[str]()
    for paper in read(folder / "paper.csv"):
        mine = [line for line in lines if _belongs(line, paper)]
        if len(settings := {line["setting"] for line in mine}) > 1:  # a group has one noise draw
            raise DataError(
                f"{folder / 'results.csv'}: {paper['method']}, {paper['column']} has runs of {len(settings)} "
                f"configurations ({'; '.join(text or 'the default' for text in sorted(settings))}); report one of them"
            )
        used |= {line["group"] for line in mine}
        found.append(Cell(paper, tuple(percent(line, measure) for line in mine)))
    return found, [line for line in lines if line["group"] not in used]


def _belongs(line: Line, paper: Line) -> bool:
    return all(line[key] == paper[key] for key in ("label", "noise", "part", "epochs"))


def page(folder: Path, measure: str = "test_last") -> str:
    """The text of `table.md`."""
    found, rest = cells(folder, measure)
    verdicts = [cell.verdict for cell in found]
    counts = ", ".join(f"{verdicts.count(name)} {name}" for name in dict.fromkeys(verdicts))
    parts = [
        f"{len(found)} cells: {counts}.",
        table(
            ["method", "noise or sampling", "paper", "re-sln", "ours", "ours − paper", "verdict"],
            [_row(cell) for cell in found],
            frozenset({"paper", "re-sln", "ours", "ours − paper"}),
        ),
        """\
Test accuracy in percent, mean ± sample standard deviation (number of runs). re-sln: an independent re-run of the
authors' code, known without spread. ours − paper: with the 95 % interval of Welch's test. agrees: the interval contains
0, so few runs with a wide spread agree with much. above, below: it does not.""",
    ]
    if any("unverified" in line["data"] for line in results(folder)):
        parts.append("Mind: our images are unverified files, not the published ones.")
    if rest:
        names = dict.fromkeys(f"{line['label']} ({line['noise']}, {line['epochs']} epochs)" for line in rest)
        parts.append(f"No cell of this table: {', '.join(names)}.")
    return "\n\n".join(parts) + "\n"


def _row(cell: Cell) -> list[str]:
    ours, published = cell.ours, cell.published
    difference = welch(ours, published) if ours else None
    name = cell.verdict
    return [
        cell.paper["method"],
        cell.paper["column"],
        _show(published),
        cell.paper["rerun"] or "–",
        _show(ours) if ours else "–",
        f"{difference.mean:+.2f} [{difference.low:+.2f}, {difference.high:+.2f}]" if difference else "–",
        f"*{name}*" if name == "not run" else name,
    ]


def _show(value: Summary) -> str:
    spread = f" ± {value.std:.2f}" if value.std is not None else ""
    return f"{value.mean:.2f}{spread} ({value.n})"


def pages() -> dict[Path, str]:
    """File → text of all tables."""
    return {EXPERIMENTS / name / "table.md": page(EXPERIMENTS / name, measure) for name, measure in MEASURES.items()}
