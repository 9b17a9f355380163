"""DISC: three sets of eight samples over three epochs, the losses and the mixing, by hand."""

from __future__ import annotations

import doctest
from collections.abc import Callable
from math import log

import pytest
import torch
from by_hand import Bare, probabilities
from torch import Tensor

from slnlab import SampleTable
from slnlab.objectives import DISC, disc

FIRST = {1: (0.9, 0.8), 2: (0.9, 0.1), 3: (0.1, 0.9), 4: (0.05, 0.05), 5: (0.12, 0.1), 6: (0.2, 0.2), 7: (0.05, 0.05)}
SECOND = {
    1: (0.6, 0.4),
    2: (0.55, 0.52),
    3: (0.5, 0.5),
    4: (0.001, 0.005),
    6: (0.47, 0.46),
    7: (0.9, 0.9),
    8: (0.1, 0.1),
}
"""Probabilities of the given label 0 of two classes in the weak and the strong view, by sample."""


def see(found: DISC, epoch: dict[int, tuple[float, float]]) -> None:
    views = torch.tensor(list(epoch.values()))
    weak, strong = (torch.stack([p, 1 - p], 1).log() for p in views.T)
    found.remember(torch.tensor(list(epoch)) - 1, weak, strong)


def test_three_sets_over_three_epochs_by_hand() -> None:
    """m = ½, σ = .78, τ = ⅛ at first: purified above .905. Sample 8 is not met in epoch 1, sample 5 not in epoch 2."""
    table = SampleTable(torch.zeros(8, dtype=torch.int64), 2)
    found = DISC(table, warm_up_epochs=1, decay=0.5, margin=0.78)
    found.begin(0)
    assert table["disc_set"].tolist() == [disc.CLEAN] * 8
    see(found, FIRST)
    found.begin(1)
    assert table["disc_set"].tolist() == [1, 2, 2, 3, 0, 1, 3, 1]
    assert table["disc_label"].tolist()[3] == 1
    # ½·⅛ + ½·max: (.9, .8), (.9, .9), (.95, .95), …, and ⅛ for the unseen one
    assert table["disc_threshold"][[0, 3, 7]].flatten().tolist() == pytest.approx(
        [0.5125, 0.4625, 0.5375, 0.5375, 0.125, 0.125]
    )
    see(found, SECOND)
    found.begin(2)
    # 1: .6 > .5125 but .4 < .4625. 3: .5 < .5125 twice, and .5 < .99. 4: .997 > .99. 8: .9 < .905.
    assert table["disc_set"].tolist() == [2, 1, 0, 3, 0, 2, 1, 0]
    assert table["disc_threshold"][4].tolist() == pytest.approx([0.0625 + 0.44, 0.0625 + 0.45]), "not seen: unchanged"


def test_targets_and_losses_by_hand() -> None:
    """Given 0; views (.5, .5) and (.2, .8). GCE: (1 − p^.7)/.7."""
    table = SampleTable(torch.zeros(4, dtype=torch.int64), 2)
    found = DISC(table, warm_up_epochs=0, hard_weight=0.5)
    table["disc_set"].copy_(torch.tensor([disc.CLEAN, disc.HARD, disc.PURIFIED, 0]))
    table["disc_label"].fill_(1)
    rows = torch.arange(4)
    assert found.targets(rows).tolist() == [[1, 0], [1, 0], [0, 1], [1, 0]]
    assert found.learned(rows).tolist() == [True, True, True, False]
    weak, strong = (torch.tensor([p, 1 - p]).log().expand(4, 2) for p in (0.5, 0.2))
    hard = 0.5 * ((1 - 0.5**0.7) + (1 - 0.2**0.7)) / 0.7
    losses = found(rows, weak, strong, found.targets(rows))
    assert losses.tolist() == pytest.approx([-log(0.5) - log(0.2), hard, 0, 0])


def mixing(bare: Callable[..., Bare], sets: list[int]) -> Bare:
    made = bare("method=disc", "method.warm_up_epochs=0", given=[0] * len(sets), num_classes=2)
    made.table["disc_set"].copy_(torch.tensor(sets))
    return made


def test_only_learned_samples_are_mixed_and_each_weighs_the_same(bare: Callable[..., Bare]) -> None:
    made = mixing(bare, [0, 1, 0, 2, 0, 3, 0])
    batch = made.batch(torch.zeros(7, 2))
    rows, partners = made.method.pairs(batch, "weak")  # type: ignore[attr-defined]
    weights = made.method.weights(batch)  # type: ignore[attr-defined]
    assert rows.tolist() == [1, 3, 5, 1, 3, 5, 1]
    assert sorted(partners[:3].tolist()) == [1, 3, 5]
    assert (partners[3:6] != partners[:3]).all(), "a repeated row has another partner"
    assert torch.zeros(7).index_add(0, rows, weights).tolist() == pytest.approx([0, 1 / 3, 0, 1 / 3, 0, 1 / 3, 0])


def loss_of(made: Bare, weak: Tensor, strong: Tensor) -> float:
    made.method.second_view = lambda batch: strong  # type: ignore[assignment]
    return made.method.loss(made.batch(weak)).item()


def test_a_step_by_hand(bare: Callable[..., Bare]) -> None:
    """The one learned sample of three is mixed with itself: a third of its two losses, and all of them again."""
    weak, strong = probabilities([[0.5, 0.5], [0.1, 0.9], [0.1, 0.9]]), probabilities([[0.2, 0.8]] * 3)
    losses = -log(0.5) - log(0.2)
    assert loss_of(mixing(bare, [1, 0, 0]), weak, strong) == pytest.approx(losses / 3 + losses)
    assert loss_of(mixing(bare, [0, 0, 0]), weak, strong) == 0
    made = mixing(bare, [1, 1, 1])
    made.method.warm_up_epochs = 1  # type: ignore[assignment]
    assert loss_of(made, weak, strong) == pytest.approx((-log(0.5) - 2 * log(0.1) - 3 * log(0.2)) / 3)


def test_both_plain_views_share_the_statistics_of_a_batch(bare: Callable[..., Bare]) -> None:
    """One pass over the weak and the strong views, and one over the mixtures of either."""
    made, sizes = mixing(bare, [1, 0, 0]), []
    made.method.network.register_forward_hook(lambda module, inputs, output: sizes.append(len(inputs[0])))
    logits = probabilities([[0.5, 0.5]] * 3)
    loss_of(made, logits, logits)
    assert sizes == [6, 3, 3]


def test_the_docstring_example_holds() -> None:
    done = doctest.testmod(disc)
    assert (done.attempted > 0, done.failed) == (True, 0)
