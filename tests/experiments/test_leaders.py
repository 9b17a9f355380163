"""The generated parts of `experiments/methods/README.md`: small made files whose lines are known by hand."""

from __future__ import annotations

from pathlib import Path

import leaders
import pytest
from evidence import read

from slnlab.storage.tables import write_csv


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three rows under two noises: B leads, A has two faces, and CE is last."""
    ranks = [("B", 1.25), ("A", 2.0), ("CE", 2.75)]
    write_csv(
        tmp_path / "rank.csv",
        [
            {"label": label, "average_rank": rank, "methods": 3, "blocks": 4, "critical_difference": 1.0}
            for label, rank in ranks
        ],
    )
    measured = [("asym", "A", 60.04, 1.0), ("asym", "B", 90.0, 7.26), ("asym", "CE", 80.0, 1.0)]
    measured += [("sym", "A", 88.0, 1.04), ("sym", "B", 92.0, 6.94)]
    keys = ("noise", "label", "test_last_percent_mean", "cost")
    write_csv(tmp_path / "pareto.csv", [dict(zip(keys, line, strict=True)) for line in measured])
    compared = [("asym", "A", -19.96, 0.04), ("asym", "B", 10.0, 0.05), ("asym", "CE", None, None)]
    compared += [("sym", "A", 28.0, 0.01), ("sym", "B", 32.0, None), ("sym", "CE", None, None)]
    keys = ("noise", "label", "difference_points_mean", "p_holm")
    write_csv(tmp_path / "comparison.csv", [dict(zip(keys, line, strict=True)) for line in compared])
    return tmp_path


def test_the_block_of_three_rows(folder: Path) -> None:
    assert leaders.block(folder).splitlines() == [
        "| method | place | average rank | asym | sym | cost |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| B | 1 | 1.2 | 90.0 | 92.0 | 6.9–7.3 |",
        "| A | 2 | 2.0 | 60.0 | 88.0 | 1.0 |",
        "| CE | 3 | 2.8 | 80.0 | – | 1.0 |",
        "",
        "- The critical difference of 3 rows over 4 blocks (a noise and a draw; Nemenyi's test) is 1.0 ranks: 2 rows "
        "are within it from the first one.",
        "- `asym`: of 2 rows 1 ahead of tuned CE (0 beyond chance) and 1 behind tuned CE (1 beyond chance); p < 0.05 "
        "after Holm's correction.",
        "- `sym`: of 2 rows 2 ahead of tuned CE (1 beyond chance) and 0 behind tuned CE (0 beyond chance); p < 0.05 "
        "after Holm's correction.",
        "- A: 10 points or more ahead of CE under `sym`, and as much behind it under `asym`.",
    ]


def test_only_leaders_and_known_rows_are_shown(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaders, "FIRST", 1)
    shown = [line.split(" | ")[0] for line in leaders.block(folder).splitlines()[2:4]]
    assert shown == ["| B", "| CE"]


def test_the_page_has_a_block_for_each_committed_sweep() -> None:
    """`test_verdicts.py` compares the page with the files."""
    named = [found[1] for found in leaders.BLOCK.findall(leaders.PAGE.read_text("utf-8"))]
    assert named == sorted(path.parent.name for path in leaders.PAGE.parent.glob("*/rank.csv"))
    assert all(read(leaders.PAGE.parent / name / "comparison.csv") for name in named)
