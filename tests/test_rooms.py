"""CONTRIBUTING's table of the rooms is the structure of the package."""

from __future__ import annotations

import re
from pathlib import Path

import import_graph

PAGE = Path(__file__).resolve().parents[1] / "CONTRIBUTING.md"


def rows() -> list[list[str]]:
    """The rooms of each row, from the top."""
    table = PAGE.read_text(encoding="utf-8").split("| room |")[1].split("\n\n")[0]
    return [re.findall(r"`(\w+)`", line.split("|")[1]) for line in table.splitlines()[2:]]


def test_contributing_names_every_package() -> None:
    named = [room for row in rows() for room in row]
    assert len(named) == len(set(named))
    assert set(named) == {import_graph.room(module) for module in import_graph.modules()} - {"", "__main__"}


def test_imports_point_downwards_only() -> None:
    """Also those within functions: one that is late because it would be a circle is a circle."""
    height = {room: number for number, row in enumerate(rows()) for room in row}
    height["__main__"] = -1
    upwards = [
        each for (one, other), group in import_graph.arrows().items() if height[one] > height[other] for each in group
    ]
    assert upwards == []


def test_there_is_no_import_cycle() -> None:
    edges = {(each.importer, each.imported) for each in import_graph.imports()}
    assert len(edges) > 100
    assert import_graph.circle({edge for edge in edges if edge[0] != edge[1]}) == []


def test_an_import_cycle_is_found() -> None:
    assert import_graph.circle({("a", "b"), ("b", "c")}) == []
    assert import_graph.circle({("a", "b"), ("b", "c"), ("c", "a")}) != []
