"""Rows of a batch, drawn and cut."""

from __future__ import annotations

import torch

from slnlab.data.batches import drawn, in_batches


def test_all_rows_are_drawn_before_any_is_drawn_again() -> None:
    rows = torch.arange(10, 17)
    found = drawn(rows, 18, torch.Generator().manual_seed(0))
    assert sorted(found[:7].tolist()) == sorted(found[7:14].tolist()) == rows.tolist()
    assert len({*found[14:].tolist()}) == 4
    assert found[:7].tolist() != found[7:14].tolist()
    assert drawn(rows[:0], 5, torch.Generator()).tolist() == drawn(rows, 0, torch.Generator()).tolist() == []


def test_no_batch_has_a_single_row() -> None:
    assert [part.tolist() for part in in_batches(torch.arange(7), 3)] == [[0, 1, 2], [3, 4, 5, 6]]
    assert in_batches(torch.arange(1), 3) == ()
