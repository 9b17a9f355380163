"""Every number of a committed report (table.csv, .md and .tex, comparison.csv) follows from its results.csv.

Rows and pairs are made anew from the lines of runs; only functions of plain numbers and texts are those of the report.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby
from math import isnan, nan
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
from evidence import EXPERIMENTS, Line, read

from slnlab.tables.latex import escaped
from slnlab.tables.statistics import Summary, holm, paired, welch

NAMES = ("data", "noise", "noise_rate", "label", "method", "evaluator", "setting")
COLUMNS = {  # of table.md: measure, factor, digits, with a standard deviation
    "last": ("test_last", 100, 2, True), "last 10": ("test_mean_last_10", 100, 2, False),
    "balanced": ("balanced_accuracy", 100, 2, True), "best val": ("test_best_noisy_val", 100, 2, True),
    "best clean val": ("test_best_clean_val", 100, 2, True), "label wave": ("test_label_wave", 100, 2, True),
    "oracle*": ("test_oracle", 100, 2, False), "noisy val": ("noisy_val_last", 100, 2, True),
    "memorised": ("memorised", 100, 1, False), "recovered": ("recovered", 100, 1, False),
    "AUROC": ("auroc", 1, 3, False), "s/epoch": ("seconds_per_epoch", 1, 2, False),
}  # fmt: skip
MISSING = {"test_last": "no test accuracy at the last epoch", "noisy_val_last": "no accuracy on held-out noisy labels"}
Row = list[Line]  # its runs
FOLDERS = [path.parent for path in sorted(EXPERIMENTS.rglob("results.csv")) if "test_last" in read(path)[0]]


def every_folder_with(name: str) -> pytest.MarkDecorator:
    folders = [folder for folder in FOLDERS if (folder / name).exists()]
    return pytest.mark.parametrize("folder", folders, ids=lambda folder: str(folder.relative_to(EXPERIMENTS)))


def rows_of(folder: Path) -> list[Row]:
    return [list(same) for _, same in groupby(read(folder / "results.csv"), lambda run: [run[name] for name in NAMES])]


def sections(folder: Path) -> list[list[Row]]:
    """The rows of each table; those of secondary networks only if the page shows any."""
    every = " (network)" in (folder / "table.md").read_text("utf-8")
    shown = [row for row in rows_of(folder) if every or not row[0]["label"].endswith(" (network)")]
    return [list(same) for _, same in groupby(shown, key=lambda row: (row[0]["data"], noise(row)))]


def noise(row: Row) -> str:
    rate = float(row[0]["noise_rate"])
    return f"{row[0]['noise']} {rate:g}" if rate else row[0]["noise"]


def values(row: Row, measure: str) -> list[float]:
    """A value per run; none if a run lacks it."""
    found = [float(run[measure]) for run in row if run.get(measure)]
    return found if len(found) == len(row) else []


def decisive(rows: list[Row]) -> str:
    return "test_last" if any(values(row, "test_last") for row in rows) else "noisy_val_last"


def by_run(row: Row, measure: str) -> dict[tuple[str, str], float]:
    return {(run["seed"], run["noise_hash"]): 100 * float(run[measure]) for run in row if run[measure]}


def compared(rows: list[Row], title: str) -> list[dict[str, Any]]:
    """The lines of comparison.csv of a table, without empty cells."""
    measure = decisive(rows)
    references = [row for row in rows if row[0]["label"] == title]
    assert len(references) < 2, "the reference has several settings: let this test choose one as comparison.py does"
    lines = []
    for row in rows:
        line: dict[str, Any] = {name: row[0][name] for name in NAMES} | {"measure": measure, "pairs": 0, "units": 0}
        line["group"] = " ".join(dict.fromkeys(run["group"] for run in row))
        for reference in references:
            line |= {"reference": title, "reference_setting": reference[0]["setting"]}
            mine, theirs, draws = by_run(row, measure), by_run(reference, measure), defaultdict(list)
            for seed, labels in (pair for pair in mine if pair in theirs):
                draws[labels].append(mine[seed, labels] - theirs[seed, labels])
            if row is reference:
                line["remark"] = "reference"
            elif draws:  # they are the units if there are several, else the seeds are
                pairs = [value for same in draws.values() for value in same]
                units, unit = ([*map(fmean, draws.values())], "noise draw") if len(draws) > 1 else (pairs, "seed")
                line |= {"pairs": len(pairs), "units": len(units), "unit": unit, "difference_points_mean": fmean(units)}
                if interval := paired(units):
                    line |= {"low": interval.low, "high": interval.high, "p": interval.p}
            elif mine and theirs:
                line["remark"] = "no run of the reference has the same seed and noisy labels"
            else:
                line["remark"] = MISSING[measure]
        lines.append(line if references else line | {"remark": "the reference has no run on this data and noise"})
    tested = [line for line in lines if "p" in line]
    for line, p in zip(tested, holm([line["p"] for line in tested]), strict=True):
        line["p_holm"] = p
    return [{name: value for name, value in line.items() if value != ""} for line in lines]


def page(path: Path) -> list[tuple[str, list[list[str]]]]:
    """Title and lines of cells of each table, the names of the columns first."""
    found: list[tuple[str, list[list[str]]]] = []
    for text in path.read_text("utf-8").splitlines():
        if text.startswith("### "):
            found.append((text[4:], []))
        elif text.startswith("|") and not text.startswith("| :-"):
            found[-1][1].append([cell.strip() for cell in text.split("|")[1:-1]])
    return found


def span(numbers: Sequence[float], form: str) -> str:
    return "–".join(dict.fromkeys(form.format(number) for number in (min(numbers), max(numbers))))


def title_of(rows: list[Row]) -> str:
    rates = [100 * fmean(found) for row in rows if (found := values(row, "realised_rate"))]
    wrong = f" ({span(rates, '{:.1f}')} % of the labels wrong)" if rates else ""
    epochs = span([float(row[0]["epochs"]) for row in rows], "{:g}")
    return f"{rows[0][0]['data']}, {noise(rows[0])}{wrong}, {epochs} epochs"


def shortened(setting: str, full: str) -> bool:
    """True if both have the same values, and the keys of `setting` are parts of the full ones."""
    mine, theirs = ([part.partition("=") for part in text.split(", ")] for text in (setting, full))
    same = [key in whole and value == other for (key, _, value), (whole, _, other) in zip(mine, theirs, strict=False)]
    return len(mine) == len(theirs) and all(same)


def cells_of(row: Row, line: dict[str, Any], nudge: float) -> dict[str, str]:
    """Column → text. Numbers are multiplied by `nudge`, close to 1, as a tie may be rounded either way."""
    cells = {"method": row[0]["label"], "epochs": row[0]["epochs"]}
    for name, (measure, factor, digits, spread) in COLUMNS.items():
        found = [factor * nudge * value for value in values(row, measure)]
        std = f" ± {stdev(found):.{digits}f}" if spread and len(found) > 1 else ""
        cells[name] = f"{fmean(found):.{digits}f}{std}" if found else "–"
    seeds = sorted({int(run["seed"]) for run in row})
    draws = max(1, len({run.get("noise_seed", "") for run in row} - {""}))
    assert seeds == list(range(seeds[0], seeds[-1] + 1)), "seeds with a gap: let this test write them as layout.py does"
    cells["seeds"] = f"{len(seeds)} ({span(seeds, '{}')})"
    cross = " ×" if len(row) == len(seeds) * draws else ","
    cells["runs"] = f"{len(row)} ({len(seeds)} seed{'s'[: len(seeds) - 1]}{cross} {draws} noise draw{'s'[: draws - 1]})"
    mean, low, high, p = (nudge * line.get(name, nan) for name in ("difference_points_mean", "low", "high", "p_holm"))
    cells |= {"vs": "reference" if line.get("remark") == "reference" else "–", "pairs": "–"}
    if line.get("pairs"):
        cells["vs"] = f"{mean:+.2f}" + ("" if isnan(low) else f" [{low:.2f}, {high:.2f}]")
        cells["pairs"] = f"{line['pairs']}" + (f" ({line['units']} draws)" if line["unit"] == "noise draw" else "")
    cells["p"] = "–" if isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"
    return cells


@every_folder_with("results.csv")
def test_each_line_of_a_comparison_follows_from_the_runs(folder: Path) -> None:
    references = {name[3:] for _, lines in page(folder / "table.md") for name in lines[0] if name.startswith("vs ")}
    expected = [line for title in references for rows in sections(folder) for line in compared(rows, title)]
    for line, other in zip(read(folder / "comparison.csv"), expected, strict=True):
        found = {name: type(other.get(name, ""))(cell) for name, cell in line.items() if cell}
        assert found == {name: pytest.approx(x, 1e-6) if isinstance(x, float) else x for name, x in other.items()}


@every_folder_with("results.csv")
def test_each_cell_of_a_page_follows_from_the_runs(folder: Path) -> None:
    tables, found = sections(folder), page(folder / "table.md")
    assert [title for title, _ in found] == [title_of(rows) for rows in tables]
    reference = next((line["reference"] for line in read(folder / "comparison.csv") if line["reference"]), None)
    for rows, (title, (header, *lines)) in zip(tables, found, strict=True):
        shown = {name for name, (measure, *_) in COLUMNS.items() if any(values(row, measure) for row in rows)}
        shown -= {"balanced", *(["noisy val"] if "last" in shown else [])}
        shown |= {"memorised", "recovered", "AUROC"} | ({f"vs {reference}", "p", "pairs"} if reference else set())
        assert shown | {"runs" if "runs" in header else "seeds"} <= {*header}, title
        comparisons = compared(rows, reference) if reference else [{}] * len(rows)
        for row, line, cells in zip(rows, comparisons, lines, strict=True):
            named = {name.removesuffix(f" {reference}"): cell for name, cell in zip(header, cells, strict=True)}
            assert shortened(named.pop("setting", ""), row[0]["setting"]), title
            named.pop("cost", None)  # from costs.json; see test_verdicts.py
            one, other = (cells_of(row, line, nudge) for nudge in (1 - 1e-9, 1 + 1e-9))
            for name, cell in named.items():
                assert cell in (one[name], other[name]), f"{title}: {row[0]['label']}, {name}"


@every_folder_with("table.tex")
def test_a_latex_table_has_the_cells_of_the_page(folder: Path) -> None:
    expected = []
    for title, lines in page(folder / "table.md"):
        expected += [escaped(title), *(" & ".join(map(escaped, cells)) for cells in lines)]
    text = re.sub(r"\\textbf\{(.*?)\}", r"\1", (folder / "table.tex").read_text("utf-8"))
    found = re.findall(r"^ +(?:\\caption\{(.* epochs)\. .*|(.*) \\\\)$", text, re.MULTILINE)
    assert [title or line for title, line in found] == expected


def by_draw(accuracies: dict[tuple[str, str], float]) -> list[float]:
    """The independent values: means of the draws of noisy labels if there are several, else the runs."""
    draws = defaultdict(list)
    for (_, labels), value in accuracies.items():
        draws[labels].append(value)
    return [*map(fmean, draws.values())] if len(draws) > 1 else [*accuracies.values()]


def tied(row: Row, best: Row, measure: str) -> bool:
    mine, theirs = by_run(row, measure), by_run(best, measure)
    differences = by_draw({run: mine[run] - theirs[run] for run in mine if run in theirs})
    if len(differences) > 1:
        found = paired(differences)
    else:
        found = welch(Summary.of(by_draw(mine)), Summary.of(by_draw(theirs)))
    return found is not None and found.low <= 0 <= found.high


@every_folder_with("table.tex")
def test_a_latex_table_has_the_best_row_and_its_ties_in_bold(folder: Path) -> None:
    text = (folder / "table.tex").read_text("utf-8")
    found = [re.findall(r"^ +(.*?) & .*\\textbf", table, re.MULTILINE) for table in text.split(r"\begin{table}")[1:]]
    for rows, bold in zip(sections(folder), found, strict=True):
        measure = decisive(rows)
        measured = [(row, fmean(by_run(row, measure).values())) for row in rows if values(row, measure)]
        if not measured:
            assert bold == []
            continue
        best, _ = max(measured, key=lambda pair: pair[1])
        assert bold == [escaped(row[0]["label"]) for row, _ in measured if row is best or tied(row, best, measure)]


@every_folder_with("table.csv")
def test_each_mean_of_a_table_of_numbers_follows_from_the_runs(folder: Path) -> None:
    for row, line in zip(rows_of(folder), read(folder / "table.csv"), strict=True):
        assert [line[name] for name in NAMES] == [row[0][name] for name in NAMES]
        for measure, percent in re.findall(r"(\w+?)(_percent)?_mean\b", " ".join(line)):
            found = [(100 if percent else 1) * value for value in values(row, measure)]
            for kind, value in (("mean", fmean(found) if found else ""), ("std", stdev(found) if found[1:] else "")):
                text = line[f"{measure}{percent}_{kind}"]
                assert text == value or float(text) == pytest.approx(value), f"{row[0]['label']}: {measure} {kind}"
