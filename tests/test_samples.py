"""The sample table: targets by hand, corrections of rows, and its saved state."""

from __future__ import annotations

from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from torch import Tensor

from slnlab import samples
from slnlab.errors import ConfigError, DataError
from slnlab.objectives import ELR, SOP
from slnlab.samples import SampleTable

GIVEN = torch.tensor([2, 0, 1, 2])
ALL = torch.arange(4)


def make(**truth: Tensor) -> SampleTable:
    return SampleTable(GIVEN, 3, **truth)


def exactly(found: Tensor, expected: list[list[float]]) -> None:
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32), rtol=0, atol=0)


def nbytes(table: SampleTable) -> int:
    return sum(column.numel() * column.element_size() for column in table.columns.values())


# Targets


def test_uncorrected_targets_are_one_hot() -> None:
    table = make()
    exactly(table.targets(ALL), [[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    exactly(table.targets(torch.tensor([3, 1, 1])), [[0, 0, 1], [1, 0, 0], [1, 0, 0]])
    assert table.targets(torch.tensor([], dtype=torch.int64)).shape == (0, 3)


def test_hard_correction_by_hand() -> None:
    table = make()
    # Rows 3 and 1, in this order; row 1 is predicted as it is given.
    table.correct(torch.tensor([3, 1]), torch.tensor([0.25, 0.75]), torch.tensor([1, 0]))
    exactly(table.targets(ALL), [[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0.75, 0.25]])
    assert table["given"].tolist() == GIVEN.tolist()
    # A second correction starts from the given label again, not from the first correction.
    table.correct(torch.tensor([3]), torch.tensor([0.5]), torch.tensor([0]))
    exactly(table.targets(ALL), [[0, 0, 1], [1, 0, 0], [0, 1, 0], [0.5, 0, 0.5]])


@pytest.mark.parametrize(("weight", "row"), [(0.0, [0.0, 1.0, 0.0]), (1.0, [0.0, 0.0, 1.0])])
def test_weights_of_0_and_1_by_hand(weight: float, row: list[float]) -> None:
    table = make()
    table.correct(torch.tensor([0]), torch.tensor([weight]), torch.tensor([1]))
    exactly(table.targets(torch.tensor([0])), [row])


def test_soft_correction_by_hand() -> None:
    table = make()
    table.correct(torch.tensor([0, 2]), torch.tensor([0.5, 0.25]), torch.tensor([[0.5, 0.25, 0.25], [0.0, 0.5, 0.5]]))
    exactly(table.targets(ALL), [[0.25, 0.125, 0.625], [1, 0, 0], [0, 0.625, 0.375], [0, 0, 1]])
    assert table["given"].tolist() == GIVEN.tolist()


def test_a_soft_correction_keeps_hard_ones_of_other_rows() -> None:
    table = make()
    table.correct(torch.tensor([0, 1]), torch.tensor([0.25, 0.5]), torch.tensor([1, 2]))
    table.correct(torch.tensor([1]), torch.tensor([0.5]), torch.tensor([[0.0, 0.5, 0.5]]))
    exactly(table.targets(ALL), [[0, 0.75, 0.25], [0.5, 0.25, 0.25], [0, 1, 0], [0, 0, 1]])


def test_a_hard_correction_replaces_a_soft_one() -> None:
    table = make()
    table.correct(ALL, torch.full((4,), 0.5), torch.tensor([[0.5, 0.25, 0.25]] * 4))
    table.correct(torch.tensor([0]), torch.tensor([0.25]), torch.tensor([1]))
    exactly(
        table.targets(ALL),
        [[0, 0.75, 0.25], [0.75, 0.125, 0.125], [0.25, 0.625, 0.125], [0.25, 0.125, 0.625]],
    )


@pytest.mark.parametrize("soft", [False, True])
def test_rows_sum_to_one(soft: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    given, predicted = torch.randint(10, (2, 500), generator=generator)
    table = SampleTable(given, 10)
    prediction = torch.rand(500, 10, generator=generator).softmax(1) if soft else predicted
    table.correct(torch.randperm(500, generator=generator), torch.rand(500, generator=generator), prediction)
    targets = table.targets(torch.arange(500))
    torch.testing.assert_close(targets.sum(1), torch.ones(500), rtol=0, atol=1e-6)
    assert float(targets.min()) >= 0


def test_targets_are_a_copy() -> None:
    table = make()
    table.targets(ALL).add_(7)  # SLN adds its noise to what it was given
    exactly(table.targets(ALL), [[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]])


def test_soft_corrections_can_be_held_in_half_precision() -> None:
    table = make()
    table.add("soft", shape=(3,), dtype=torch.float16)
    table.correct(torch.tensor([0]), torch.tensor([0.5]), torch.tensor([[0.5, 0.25, 0.25]]))
    assert table["soft"].dtype == torch.float16
    exactly(table.targets(ALL), [[0.25, 0.125, 0.625], [1, 0, 0], [0, 1, 0], [0, 0, 1]])


def test_predictions_and_weights_of_other_dtypes_are_accepted() -> None:
    table = make()
    table.correct(torch.tensor([0]), torch.tensor([0.25], dtype=torch.float64), torch.tensor([1], dtype=torch.int32))
    table.correct(torch.tensor([1]), torch.tensor([0.5], dtype=torch.bfloat16), torch.tensor([2], dtype=torch.uint8))
    exactly(table.targets(ALL), [[0, 0.75, 0.25], [0.5, 0, 0.5], [0, 1, 0], [0, 0, 1]])


def test_targets_do_not_wait_for_the_device() -> None:
    """On the meta device reading a value raises."""
    table = make().to("meta")
    assert table.device.type == "meta"
    index = torch.empty(2, dtype=torch.int64, device="meta")
    assert table.targets(index).shape == (2, 3)
    table.correct(index, torch.empty(2, device="meta"), torch.empty(2, dtype=torch.int64, device="meta"))
    assert table.targets(index).device.type == "meta"
    table.correct(index, torch.empty(2, device="meta"), torch.empty(2, 3, device="meta"))
    assert table.targets(index).device.type == "meta"


# Columns


def test_the_given_labels_are_a_copy() -> None:
    given = GIVEN.clone()
    table = SampleTable(given, 3)
    given.zero_()
    assert table["given"].tolist() == GIVEN.tolist()


def test_known_true_labels_are_kept() -> None:
    true, wrong = torch.tensor([2, 1, 1, 2]), torch.tensor([False, True, False, False])
    table = make(true=true, wrong=wrong)
    assert len(table) == 4
    assert table["true"].tolist() == [2, 1, 1, 2]
    assert table["wrong"].tolist() == wrong.tolist()
    assert "true" not in make()
    assert "wrong" not in make()


def test_add_creates_a_column_once() -> None:
    table = make()
    made = table.add("loss", fill=2.5)
    assert made.tolist() == [2.5] * 4
    made[1] = 7
    assert table.add("loss", fill=-1).tolist() == [2.5, 7, 2.5, 2.5]
    assert table["loss"].data_ptr() == made.data_ptr()
    assert table.add("running", shape=(3,), dtype=torch.float16).shape == (4, 3)
    assert table["running"].dtype == torch.float16


def test_an_unknown_column_is_refused_with_the_known_ones() -> None:
    table = make()
    table.add("running")
    with pytest.raises(KeyError, match=r"no column 'runing'.*given, predicted, weight, running"):
        table["runing"]


def test_memory_grows_with_samples_not_classes() -> None:
    """ImageNet: 1.3 million samples, 1,000 classes; a full target matrix would be 5 GB."""
    few, many = (SampleTable(torch.zeros(1000, dtype=torch.int64), classes) for classes in (2, 1000))
    for table in (few, many):
        table.correct(torch.arange(1000), torch.rand(1000), torch.ones(1000, dtype=torch.int64))
    assert nbytes(few) == nbytes(many) <= 1000 * 24
    assert {column.shape for column in many.columns.values()} == {(1000,)}
    many.correct(torch.arange(10), torch.rand(10), torch.rand(10, 1000))
    assert nbytes(many) == nbytes(few) + 1000 * 1000 * 4


@pytest.mark.parametrize(
    ("given", "truth"),
    [
        (torch.tensor([0.0, 1.0]), {}),
        (torch.tensor([[0], [1]]), {}),
        (torch.tensor([0, 3]), {}),
        (torch.tensor([-1, 0]), {}),
        (torch.tensor([0, 1]), {"true": torch.tensor([0])}),
        (torch.tensor([0, 1]), {"wrong": torch.tensor([[True, False]])}),
        (torch.tensor([0, 1]), {"true": [0, 1]}),
        (torch.tensor([0, 1]), {"sample_weight": torch.tensor([0.5, 1.5])}),
        (torch.tensor([0, 1]), {"sample_weight": torch.tensor([-0.5, torch.nan])}),
        ([0, 1], {}),
        (torch.tensor([0, 1]).numpy(), {}),
    ],
)
def test_an_impossible_table_is_refused(given: Any, truth: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(truth), "given labels")):
        SampleTable(given, 3, **truth)


# State


def corrected(soft: bool) -> SampleTable:
    table = make(true=torch.tensor([2, 1, 1, 2]), wrong=torch.tensor([False, True, False, False]))
    table.add("loss")[2] = 3.5
    prediction = torch.tensor([[0.5, 0.25, 0.25], [0.0, 0.5, 0.5]]) if soft else torch.tensor([1, 2])
    table.correct(torch.tensor([0, 1]), torch.tensor([0.25, 0.5]), prediction)
    return table


@pytest.mark.parametrize("soft", [False, True])
def test_a_saved_state_restores_the_table(soft: bool, tmp_path: Any) -> None:
    table = corrected(soft)
    torch.save(table.state_dict(), tmp_path / "state")
    truth = torch.tensor([1, 1, 1, 1])
    again = make(true=truth)
    again.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    assert torch.equal(again.targets(ALL), table.targets(ALL))
    assert again["loss"].tolist() == [0, 0, 3.5, 0]
    assert torch.equal(again["true"], truth)
    assert "wrong" not in again


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("soft_before", [False, True])
def test_loading_discards_later_corrections(soft: bool, soft_before: bool) -> None:
    table = corrected(soft_before)
    state = corrected(soft).state_dict()
    table.correct(ALL, torch.zeros(4), torch.tensor([[1.0, 0.0, 0.0]] * 4) if soft_before else torch.tensor([0] * 4))
    table.load_state_dict(state)
    assert torch.equal(table.targets(ALL), corrected(soft).targets(ALL))


def test_a_later_correction_leaves_a_saved_state() -> None:
    table = corrected(soft=False)
    state = table.state_dict()
    table.correct(ALL, torch.zeros(4), torch.tensor([0] * 4))
    assert state["weight"].tolist() == [0.25, 0.5, 1, 1]


def test_true_labels_are_never_saved() -> None:
    """A checkpoint must not carry the answers."""
    state = corrected(soft=False).state_dict()
    assert set(state) == {"given", "predicted", "weight", "loss"}


def test_tables_loaded_from_one_state_are_independent() -> None:
    one, two = corrected(soft=False), make()
    before = one.targets(ALL)
    two.load_state_dict(one.state_dict())
    two.correct(ALL, torch.zeros(4), torch.tensor([0, 0, 0, 0]))
    assert torch.equal(one.targets(ALL), before)


@pytest.mark.parametrize("labels", [[2, 0, 1, 1], [2, 0, 1], [2, 0, 1, 2, 0]])
def test_the_state_of_other_labels_is_refused(labels: list[int]) -> None:
    state = SampleTable(torch.tensor(labels), 3).state_dict()
    table = corrected(soft=False)
    before = table.targets(ALL)
    with pytest.raises(DataError, match="other given labels"):
        table.load_state_dict(state)
    with pytest.raises(DataError, match="other given labels"):
        table.load_state_dict({})
    assert torch.equal(table.targets(ALL), before)


# Copies of a sample in a batch


def test_of_copies_the_first_is_written_in_every_column() -> None:
    table = SampleTable(GIVEN, 3, repeats=True)
    table.watch()
    logits = torch.tensor([[0.0, 0, 5], [1, 0, 0], [9, 0, 0], [0, 9, 0]])
    table.observe(torch.tensor([3, 1, 3, 1]), logits)
    first = SampleTable(GIVEN, 3)
    first.watch()
    first.observe(torch.tensor([3, 1]), logits[:2])
    for name in ("loss", "prediction", "margin", "observed"):
        assert torch.equal(table[name], first[name])


def test_a_running_target_moves_once_per_step_whatever_the_number_of_copies() -> None:
    """ELR: q ← β·q + (1 − β)·S of the first copy; and both copies are pulled towards this q."""
    table = SampleTable(GIVEN, 3, repeats=True)
    elr = ELR(table, strength=1, decay=0.5)
    index, logits = torch.tensor([1, 1]), torch.tensor([[0.25, 0.25, 0.5], [0.5, 0.25, 0.25]]).log()
    elr.remember(index, logits)
    torch.testing.assert_close(table["elr"][1], torch.tensor([0.125, 0.125, 0.25]))
    penalty = elr(index, logits, table.targets(index)) + logits[:, 0]
    torch.testing.assert_close(penalty.exp(), torch.tensor([1 - 0.1875, 1 - 0.15625]))  # 1 − ⟨q, S⟩ of each copy


def test_gradients_of_copies_add_up() -> None:
    """SOP: u and v of a sample are parameters, so each copy of the sample has a part in their gradient."""
    one, two = SampleTable(GIVEN, 3), SampleTable(GIVEN, 3, repeats=True)
    sops = [SOP(table, lr_u=1, lr_v=1, seed=4) for table in (one, two)]
    for table in (one, two):
        table["sop_v"].fill_(0.5)
    start = one["sop_v"].clone()
    for sop, index in zip(sops, (torch.tensor([1]), torch.tensor([1, 1])), strict=True):
        noise = sop.noise(index)
        sop(noise, torch.zeros(len(index), 3), sop.table.targets(index)).sum().backward()
        sop.step(noise)
    assert (one["sop_v"][1] != start[1]).any()
    torch.testing.assert_close(two["sop_v"] - start, 2 * (one["sop_v"] - start))


def test_of_copies_in_two_processes_that_of_the_first_process_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = [SampleTable(GIVEN, 3, repeats=True) for _ in range(2)]
    parts = [torch.tensor([0, 2]), torch.tensor([2, 3])]
    for rank, (table, part) in enumerate(zip(tables, parts, strict=True)):
        table.add("seen_by", fill=-1)
        table.write(part, seen_by=torch.full((2,), float(rank)))
    before = [table["seen_by"].clone() for table in tables]
    for table in tables:
        columns = torch.cat([column[part] for column, part in zip(before, parts, strict=True)])
        monkeypatch.setattr(samples, "gather", MagicMock(side_effect=[torch.cat(parts), columns]))
        table.share(parts[0])
        assert table["seen_by"].tolist() == [0, -1, 0, 1]
