"""The table of `experiments/methods/README.md` follows from rank.csv and pareto.csv."""

from __future__ import annotations

import re

import pytest
from evidence import EXPERIMENTS, read

FOLDER = EXPERIMENTS / "methods"
PAGE = (FOLDER / "README.md").read_text("utf-8")
LINES = re.findall(r"^\| (\S.*) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| (\S+) \|$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("cells", LINES, ids=lambda cells: cells[0])
def test_each_line_follows_from_the_files(cells: tuple[str, ...]) -> None:
    label, rank, symmetric, asymmetric, cost = cells
    ranks = {line["label"]: float(line["average_rank"]) for line in read(FOLDER / "methods/rank.csv")}
    accuracy, costs = dict[str, str](), set[str]()
    for line in read(FOLDER / "methods/pareto.csv"):
        if line["label"] == label:
            accuracy[line["noise"]] = f"{float(line['test_last_percent_mean']):.1f}"
            costs.add(f"{float(line['cost']):.1f}")
    assert rank == f"{ranks[label]:.1f}"
    assert (symmetric, asymmetric) == (accuracy["sym"], accuracy["asym"])
    assert cost == "–".join(sorted(costs))


def test_the_table_shows_the_leaders() -> None:
    assert len(LINES) > 5
    first = [line["label"] for line in read(FOLDER / "methods/rank.csv")][:3]
    assert [cells[0] for cells in LINES[:3]] == first
