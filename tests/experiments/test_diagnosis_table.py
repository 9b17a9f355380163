"""The page of `experiments/diagnosis.py`: committed, and from a few lines by hand."""

from __future__ import annotations

from pathlib import Path

import diagnosis
import pytest
from evidence import EXPERIMENTS, Line

RUN: Line = {"data": "digits", "noise": "sym 0.4", "row": "CE", "seed": "0", "noise_hash": "a", "git": ""}
MEASURES = {"average_precision": "0.5", "precision_at_100": "1", "precision_at_cut": "1", "recall_at_cut": "1"}


def test_the_committed_page_follows_from_its_files() -> None:
    folder = EXPERIMENTS / "diagnosis"
    assert diagnosis.page(folder) == (folder / "table.md").read_text(encoding="utf-8")


def test_seeds_are_averaged_within_a_draw() -> None:
    """Draw a has two seeds, so its mean counts once beside draw b. With one draw the seeds are the units."""
    lines: list[Line] = [
        {**RUN, "seed": seed, "noise_hash": draw} for seed, draw in (("0", "a"), ("1", "a"), ("0", "b"))
    ]
    values = iter([0.2, 0.4, 0.9])
    assert diagnosis.by_unit(lines, lambda line: next(values)) == pytest.approx({"a": 0.3, "b": 0.9})
    values = iter([0.2, 0.4])
    assert diagnosis.by_unit(lines[:2], lambda line: next(values)) == pytest.approx({"0": 0.2, "1": 0.4})


def test_a_page_by_hand(tmp_path: Path) -> None:
    """AUM beats the loss by .2 and .3 on two draws: .25 ± 12.706·.0707/√2 = .635. One interval of two holds."""
    scores = [
        {**RUN, "noise_hash": draw, "score": score, "auroc": auroc, **MEASURES}
        for draw, score, auroc in (("a", "aum", "0.9"), ("a", "loss", "0.7"), ("b", "aum", "0.9"), ("b", "loss", "0.6"))
    ]
    limits = (("a", "0.3", "0.5"), ("b", "0.45", "0.5"))
    rates = [
        {**RUN, "noise_hash": draw, "score": score, "value": "0.4", "low": low, "high": high, "true": "0.4"}
        for score in diagnosis.OF_RATE
        for draw, low, high in limits
    ]
    diagnosis.write(tmp_path / "scores.csv", scores)
    diagnosis.write(tmp_path / "rates.csv", rates)
    page = diagnosis.page(tmp_path)
    assert "| `aum` | 0.900 ± 0.000 |" in page
    assert "| `loss` | 0.650 ± 0.071 |" in page
    assert "| `aum` − `loss` | +0.250 [-0.385, +0.885] |" in page
    assert "| `aum` | 40.0 (1 of 2) |" in page
