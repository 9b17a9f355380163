"""The training dynamics of four samples over three epochs, by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from slnlab import SampleTable
from slnlab.callbacks.dynamics import COLUMNS, EMA_SHARE, accumulate, dynamics, prediction_changes
from slnlab.record.label_wave import CHANGES
from slnlab.record.metrics import read_metrics
from slnlab.record.result import Result
from slnlab.samples import margins

GIVEN = [0, 1, 2, 0]
LOGITS = [  # of three epochs; the given label's logit is one of them
    [[2.0, 0.0, 1.0], [0.0, 3.0, 1.0], [1.0, 0.0, 0.0], [0.0, 2.0, 0.0]],
    [[0.0, 4.0, 1.0], [0.0, 3.0, 1.0], [0.0, 1.0, 0.0], [0.0, 2.0, 0.0]],
    [[5.0, 0.0, 1.0], [4.0, 3.0, 1.0], [1.0, 0.0, 0.0], [0.0, 2.0, 0.0]],
]
"""Sample 1 forgets in epoch 2 and learns again, sample 2 forgets in epoch 3, sample 3 never learns and changes twice,
sample 4 never learns and does not change."""


def table() -> SampleTable:
    made = SampleTable(torch.tensor(GIVEN), 3)
    made.watch()
    for name, (first, dtype) in COLUMNS.items():
        made.add(name, first, dtype=dtype)
    return made


def after(epochs: list[list[int]]) -> tuple[SampleTable, dict[str, Tensor]]:
    """The table and its dynamics after epochs that see these samples."""
    made = table()
    for number, rows in enumerate(epochs):
        made["observed"].fill_(False)
        index = torch.tensor(rows, dtype=torch.int64)
        made.observe(index, torch.tensor(LOGITS[number])[index])
        accumulate(made)
    return made, dynamics(made, torch.arange(4))


ALL = [[0, 1, 2, 3]] * 3


def test_margins_by_hand() -> None:
    assert margins(torch.tensor(LOGITS[0]), torch.tensor(GIVEN)).tolist() == [1, 2, -1, -2]
    tied = torch.tensor([[3.0, 3.0, 1.0], [3.0, 3.0, 3.0]])
    assert margins(tied, torch.tensor([1, 2])).tolist() == [0, 0]


def test_area_under_the_margin_by_hand() -> None:
    aum = after(ALL)[1]["aum"].tolist()
    assert aum == pytest.approx([(1 - 4 + 4) / 3, (2 + 2 - 1) / 3, -1, -2])


def test_forgetting_and_label_changes_by_hand() -> None:
    found = after(ALL)[1]
    assert found["forgetting"].tolist() == [1, 1, math.inf, math.inf]
    assert found["label_changes"].tolist() == [2, 1, 2, 0]
    assert found["epochs_seen"].tolist() == [3, 3, 3, 3]


def test_prediction_changes_of_an_epoch_by_hand() -> None:
    """Samples 1 and 3 change in epoch 2, all but sample 4 in epoch 3. Epochs that meet a new sample have no count."""
    made, found = table(), []
    for number, rows in enumerate([[0, 1, 2], [0, 1, 2], [0, 1, 2], [0, 1, 2, 3]]):
        made["observed"].fill_(False)
        made.observe(torch.tensor(rows), torch.tensor(LOGITS[min(number, 2)])[rows])
        found.append(prediction_changes(made))
        accumulate(made)
    assert found == [None, 2, 3, None]


def test_an_epoch_without_a_count_has_an_empty_cell(
    tiny_run: Callable[..., tuple[Result, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning keeps the metrics of earlier epochs, and the count of one epoch is not that of the next."""
    counts = [None, 34, None, 35]
    left = iter(counts)
    monkeypatch.setattr("slnlab.callbacks.dynamics.prediction_changes", lambda table: next(left))
    _, directory = tiny_run("trainer.max_epochs=4")
    assert [row.get(CHANGES) for row in read_metrics(directory / "metrics.csv")] == counts


def test_moving_average_of_the_loss_by_hand() -> None:
    losses = torch.nn.functional.cross_entropy(
        torch.tensor(LOGITS).flatten(0, 1), torch.tensor(GIVEN * 3), reduction="none"
    )
    first, second, third = losses.view(3, 4)
    a = EMA_SHARE
    expected = (a * (1 - a) ** 2 * first + a * (1 - a) * second + a * third) / (1 - (1 - a) ** 3)
    torch.testing.assert_close(after(ALL)[1]["ema_loss"], expected)
    torch.testing.assert_close(after(ALL[:1])[1]["ema_loss"], first)  # one epoch: the loss itself


def test_data_map_equals_mean_and_deviation_over_epochs() -> None:
    of_given = torch.tensor(LOGITS).softmax(2)[:, torch.arange(4), GIVEN]
    found = after(ALL)[1]
    torch.testing.assert_close(found["probability_mean"], of_given.mean(0))
    torch.testing.assert_close(found["probability_std"], of_given.std(0, correction=0))


def test_an_epoch_that_leaves_a_sample_out_changes_none_of_its_numbers() -> None:
    found = after([[0, 1, 2], [1, 2], [0, 1, 2]])[1]
    assert found["epochs_seen"].tolist() == [2, 3, 3, 0]
    assert found["aum"].tolist() == pytest.approx([(1 + 4) / 2, 1, -1, math.nan], nan_ok=True)
    assert found["forgetting"].tolist() == pytest.approx([0, 1, math.inf, math.nan], nan_ok=True)
    assert all(column[3].isnan() for name, column in found.items() if name != "epochs_seen")


def test_a_saved_table_goes_on_with_the_same_bits() -> None:
    whole, _ = after(ALL)
    begun, _ = after(ALL[:2])
    resumed = SampleTable(torch.tensor(GIVEN), 3)
    resumed.load_state_dict(begun.state_dict())
    for name, (first, dtype) in COLUMNS.items():
        resumed.add(name, first, dtype=dtype)  # as `on_fit_start` does
    resumed["observed"].fill_(False)
    resumed.observe(torch.arange(4), torch.tensor(LOGITS[2]))
    accumulate(resumed)
    assert all(torch.equal(column, whole[name]) for name, column in resumed.columns.items())


def test_memory_per_sample() -> None:
    made = table()
    of_dynamics = sum(made[name].element_size() for name in [*COLUMNS, "margin", "observed"])
    assert of_dynamics == 38
    assert all(made[name].ndim == 1 for name in COLUMNS)
