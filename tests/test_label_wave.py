"""Label Wave: the first minimum of the prediction changes, by hand."""

from __future__ import annotations

import pytest

from slnlab.record.label_wave import stopping_epoch
from slnlab.record.metrics import summarise_test


def rows_of(changes: list[float], first: int = 2) -> list[dict[str, float]]:
    """Epochs whose counts begin in the epoch `first`; epoch e has the test accuracy e/100."""
    rows = [{"epoch": float(epoch), "test/network/accuracy": epoch / 100} for epoch in range(1, first + len(changes))]
    for row, count in zip(rows[first - 1 :], changes, strict=True):
        row["train/prediction_changes"] = count
    return rows


@pytest.mark.parametrize(
    ("changes", "average", "epoch"),
    [
        ([9, 7, 5, 6, 2, 8], 1, 4),  # the counts of epochs 2 to 7: 5 in epoch 4 is smaller than 6
        ([9, 7, 5, 6, 2, 8, 8], 3, 6),  # means from epoch 4 on: 7, 6, 13/3, 16/3, so epoch 6
        ([1, 2, 9, 4, 4, 5], 1, 6),  # rises first, which is no minimum; of the two 4s the later one
        ([9, 7, 5, 3], 1, 5),  # no minimum: trained to the end
        ([1, 2, 3], 1, 4),
        ([9, 1, 9], 3, 4),  # too short for two means
    ],
)
def test_the_first_local_minimum_by_hand(changes: list[float], average: int, epoch: int) -> None:
    assert stopping_epoch(rows_of(changes), average) == epoch


def test_runs_without_comparable_counts_have_no_choice() -> None:
    assert stopping_epoch(rows_of([9, 7, 8], first=3), 1) is None
    assert stopping_epoch(rows_of([])) is None


def test_the_result_has_the_accuracy_of_that_epoch_or_the_last_evaluated_one_until_then() -> None:
    rows = rows_of([9, 7, 5, 6, 2, 8, 8])
    found = summarise_test(rows, "network")
    assert found is not None
    assert found.label_wave is not None
    assert (found.label_wave.epoch, found.label_wave.accuracy) == (6, 0.06)
    for unevaluated in (rows[5], rows[4]):
        del unevaluated["test/network/accuracy"]
    found = summarise_test(rows, "network")
    assert found is not None
    assert found.label_wave is not None
    assert (found.label_wave.epoch, found.label_wave.accuracy) == (4, 0.04)
    assert summarise_test(rows_of([], first=3), "network").label_wave is None  # type: ignore[union-attr]
