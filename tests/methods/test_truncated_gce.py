"""Truncated GCE: its loss before and after pruning, the pruned samples, and the epochs of pruning."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from by_hand import Bare, probabilities
from saying import OppositeInTraining

from slnlab.data.batches import Samples

Q1 = ("method=truncated_gce", "loss.q=1", "method.truncation=0.5", "method.first_pruning=3", "method.pruning_every=2")
"""q = 1, k = ½: GCE is 1 − p and its value at k is ½."""

ROWS = [[0.8, 0.1, 0.1], [0.4, 0.3, 0.3], [0.2, 0.3, 0.5], [0.1, 0.6, 0.3]]
GIVEN = [0, 0, 2, 1]


def passes(rows: list[list[float]], times: list[int], wanted: str = "clean") -> Callable[..., list[Samples]]:
    def make(views: str, purpose: str, epoch: int) -> list[Samples]:
        assert views == wanted
        times.append(epoch)
        images = torch.tensor(rows).log()
        return [Samples(torch.tensor([2, 0]), images[[2, 0]]), Samples(torch.tensor([1, 3]), images[[1, 3]])]

    return make


def test_before_and_after_pruning_by_hand(bare: Callable[..., Bare]) -> None:
    """p = .8, .4, .5, .6. Before: the mean of (1 − p) − ½ = −.3, .1, 0, −.1. After: p > ½ leaves the 1st and 4th."""
    made = bare(*Q1, given=GIVEN, num_classes=3)
    assert made.loss(probabilities(ROWS)).item() == pytest.approx((-0.3 + 0.1 + 0.0 - 0.1) / 4, abs=1e-7)
    made.trainer.datamodule.passes = passes(ROWS, [])
    made.method.prune()
    assert made.table["selected"].tolist() == [True, False, False, True], "p = k is pruned"
    logits = probabilities(ROWS)
    loss = made.loss(logits)
    assert loss.item() == pytest.approx((-0.3 - 0.1) / 4, abs=1e-7), "the mean over the whole batch"
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[1:3].abs().max() == 0
    # ∂(1 − p)/∂f = p·(S − onehot): at the first sample .8·(−.2, .1, .1)
    assert logits.grad[0].tolist() == pytest.approx([-0.16 / 4, 0.08 / 4, 0.08 / 4])


def test_views_augmented_prunes_on_augmented_images(bare: Callable[..., Bare]) -> None:
    made = bare(*Q1, "method.views=augmented", given=GIVEN, num_classes=3)
    made.trainer.datamodule.passes = passes(ROWS, [], wanted="augmented")
    made.method.prune()
    assert made.table["selected"].tolist() == [True, False, False, True]


def test_the_loss_at_the_truncation_by_hand(bare: Callable[..., Bare]) -> None:
    """(1 − k^q)/q: 1 for q = ½, k = ¼."""
    made = bare("method=truncated_gce", "loss.q=0.5", "method.truncation=0.25", given=[0], num_classes=3)
    assert made.loss(probabilities([[0.25, 0.5, 0.25]])).item() == pytest.approx(0, abs=1e-7)
    assert made.loss(probabilities([[0.64, 0.3, 0.06]])).item() == pytest.approx(0.4 - 1.0)


def test_pruned_samples_can_return_by_their_unperturbed_target(bare: Callable[..., Bare]) -> None:
    made = bare(*Q1, "sln.sigma=5", given=GIVEN, num_classes=3)
    made.trainer.datamodule.passes = passes(ROWS, [])
    made.method.prune()
    assert made.table["selected"].tolist() == [True, False, False, True]
    made.trainer.datamodule.passes = passes([[0.3, 0.4, 0.3], [0.6, 0.2, 0.2], *ROWS[2:]], [])
    made.method.prune()
    assert made.table["selected"].tolist() == [False, True, False, True]


def test_pruning_predicts_in_eval_mode(bare: Callable[..., Bare]) -> None:
    """Then it says .8, .4, .3 and .9 of the given labels, and p > ½ leaves the 1st and 4th."""
    made = bare(*Q1, given=[0, 0, 1, 1], num_classes=2)
    made.method.networks["network"] = OppositeInTraining()
    made.trainer.datamodule.passes = passes([[0.8, 0.2], [0.4, 0.6], [0.7, 0.3], [0.1, 0.9]], [])
    made.method.prune()
    assert made.table["selected"].tolist() == [True, False, False, True]
    assert made.method.network.training, "it is back in its mode"


@pytest.mark.parametrize(("first", "expected"), [("3", [3, 5, 7]), ("null", [])])
def test_pruning_follows_first_pruning_and_pruning_every(
    first: str, expected: list[int], bare: Callable[..., Bare]
) -> None:
    """At the start of epochs 3, 5, 7, … counted from 1; or never."""
    made = bare(*Q1, f"method.first_pruning={first}", given=GIVEN, num_classes=3)
    times: list[int] = []
    made.trainer.datamodule.passes = passes(ROWS, times)
    made.method.optimizers = lambda use_pl_optimizer: []  # type: ignore[method-assign, assignment]
    for epoch in range(8):
        made.trainer.current_epoch = epoch
        made.method.on_train_epoch_start()
    assert [epoch + 1 for epoch in times] == expected
