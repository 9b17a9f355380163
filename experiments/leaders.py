"""Which methods lead in `experiments/methods`, from the committed files of each sweep: the generated parts of its page.

`make experiments` writes them between the lines `<!-- leaders: FOLDER -->` and `<!-- end -->` of the page.
"""

from __future__ import annotations

import re
from pathlib import Path

from evidence import EXPERIMENTS, Line, read, table

PAGE = EXPERIMENTS / "methods" / "README.md"
BLOCK = re.compile(r"(<!-- leaders: (\w+) -->\n).*?(<!-- end -->\n)", re.DOTALL)
FIRST = 8
"""Number of leading rows that the table shows."""
ALWAYS = ("ELR", "SLN-MO-LC", "SLN-MO", "SLN", "CE")
"""Titles of rows that the table shows wherever they stand."""
MUCH = 10
"""Percentage points that count as much ahead or behind."""
ALPHA = 0.05


def page() -> str:
    """The text of the page with its generated parts made anew."""
    text = PAGE.read_text(encoding="utf-8")
    return BLOCK.sub(lambda found: f"{found[1]}{block(PAGE.parent / found[2])}\n{found[3]}", text)


def block(folder: Path) -> str:
    """The table of the leaders and what chance leaves open.

    Args:
        folder: with `rank.csv`, `pareto.csv` and `comparison.csv`.
    """
    ranks, measured = read(folder / "rank.csv"), read(folder / "pareto.csv")
    noises = list(dict.fromkeys(line["noise"] for line in measured))
    rows = [
        [line["label"], str(place), f"{float(line['average_rank']):.1f}", *_measured(line["label"], noises, measured)]
        for place, line in enumerate(ranks, 1)
        if place <= FIRST or line["label"] in ALWAYS
    ]
    header = ["method", "place", "average rank", *noises, "cost"]
    lines = [
        f"- {_reach(ranks)}",
        *(f"- {line}" for noise in noises if (line := _against(noise, read(folder / "comparison.csv")))),
        *(f"- {line}" for line in _two_faced(read(folder / "comparison.csv"))),
    ]
    return "\n".join([table(header, rows, frozenset(header[1:])), "", *lines])


def _measured(label: str, noises: list[str], measured: list[Line]) -> list[str]:
    its = {line["noise"]: line for line in measured if line["label"] == label}
    costs = sorted({f"{float(line['cost']):.1f}" for line in its.values() if line["cost"]}, key=float)
    accuracies = [f"{float(its[noise]['test_last_percent_mean']):.1f}" if noise in its else "–" for noise in noises]
    return [*accuracies, "–".join(dict.fromkeys([costs[0], costs[-1]])) if costs else "?"]


def _reach(ranks: list[Line]) -> str:
    reach = float(ranks[0]["average_rank"]) + float(ranks[0]["critical_difference"])
    near = sum(float(line["average_rank"]) <= reach for line in ranks)
    return (
        f"The critical difference of {ranks[0]['methods']} rows over {ranks[0]['blocks']} blocks (a noise and a draw; "
        f"Nemenyi's test) is {float(ranks[0]['critical_difference']):.1f} ranks: {near} rows are within it from the "
        "first one."
    )


def _against(noise: str, compared: list[Line]) -> str | None:
    """How many rows are ahead of cross entropy and behind it."""
    rows = [(line, _points(line)) for line in compared if line["noise"] == noise and line["difference_points_mean"]]
    sides = []
    for side, name in ((1, "ahead of"), (-1, "behind")):
        its = [line for line, points in rows if side * points > 0]
        sure = [line for line in its if line["p_holm"] and float(line["p_holm"]) < ALPHA]
        sides.append(f"{len(its)} {name} tuned CE ({len(sure)} beyond chance)")
    return (
        f"`{noise}`: of {len(rows)} rows {' and '.join(sides)}; p < {ALPHA} after Holm's correction." if rows else None
    )


def _two_faced(compared: list[Line]) -> list[str]:
    """The rows that are much ahead of cross entropy under one noise and much behind it under another."""
    points: dict[str, dict[str, float]] = {}
    for line in compared:
        if line["difference_points_mean"]:
            points.setdefault(line["label"], {})[line["noise"]] = _points(line)
    found: dict[tuple[str, str], list[str]] = {}
    for label, its in points.items():
        best, worst = max(its, key=its.__getitem__), min(its, key=its.__getitem__)
        if its[best] >= MUCH and its[worst] <= -MUCH:
            found.setdefault((best, worst), []).append(label)
    return [
        f"{', '.join(labels)}: {MUCH} points or more ahead of CE under `{best}`, and as much behind it under `{worst}`."
        for (best, worst), labels in found.items()
    ]


def _points(line: Line) -> float:
    return float(line["difference_points_mean"])
