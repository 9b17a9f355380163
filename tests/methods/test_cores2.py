"""CORES²: regulariser, sieve, prior and ramp by hand."""

from __future__ import annotations

from collections.abc import Callable
from math import log

import pytest
import torch
from by_hand import Bare, probabilities

from slnlab import SampleTable
from slnlab.errors import ConfigError
from slnlab.objectives import CORES2

SETUP = ("method=cores2", "method.strength=2", "method.ramp=[2,6]", "method.sieve_from=3")
ROWS = [[0.5, 0.3, 0.2], [0.2, 0.7, 0.1], [0.1, 0.6, 0.3]]
GIVEN = [0, 0, 1]


def at_epoch(made: Bare, epoch: int) -> Bare:
    """`epoch` from 1."""
    made.method.optimizers = lambda use_pl_optimizer: []  # type: ignore[method-assign, assignment]
    made.trainer.current_epoch = epoch - 1
    made.method.on_train_epoch_start()
    return made


def regulariser(row: list[float], prior: list[float]) -> float:
    return sum(p * -log(s) for p, s in zip(prior, row, strict=True))


def test_the_loss_before_and_after_the_sieve(bare: Callable[..., Bare]) -> None:
    """Epoch 3 of the ramp from 2 to 6: β = 2·¼. The second sample, −ln .2, is above its mean −ln(.2·.7·.1)/3.

    π is (⅔, ⅓, 0): the given labels.
    """
    assert -log(0.2) > -log(0.2 * 0.7 * 0.1) / 3
    prior = [2 / 3, 1 / 3, 0.0]
    losses = [-log(row[y]) - 0.5 * regulariser(row, prior) for row, y in zip(ROWS, GIVEN, strict=True)]
    for sieve_from, kept in ((4, [True, True, True]), ("null", [True, True, True]), (3, [True, False, True])):
        made = at_epoch(bare(*SETUP, f"method.sieve_from={sieve_from}", given=GIVEN, num_classes=3), 3)
        loss = made.loss(probabilities(ROWS))
        expected = sum(value for value, keep in zip(losses, kept, strict=True) if keep) / sum(kept)
        assert loss.item() == pytest.approx(expected, rel=1e-5)
        assert made.table["selected"].tolist() == kept


def test_the_prior_counts_the_labels_kept_in_the_last_epoch(bare: Callable[..., Bare]) -> None:
    made = at_epoch(bare(*SETUP, given=GIVEN, num_classes=3), 3)
    assert made.method.cores.prior.tolist() == pytest.approx([2 / 3, 1 / 3, 0])  # type: ignore[union-attr]
    made.loss(probabilities(ROWS))
    at_epoch(made, 4)
    assert made.method.cores.prior.tolist() == pytest.approx([1 / 2, 1 / 2, 0])  # type: ignore[union-attr]
    made.table["selected"][:] = False
    at_epoch(made, 5)
    assert made.method.cores.prior.tolist() == pytest.approx([1 / 2, 1 / 2, 0])  # type: ignore[union-attr]
    made.table["selected"][:] = torch.tensor([False, True, False])
    at_epoch(made, 6)
    assert made.method.cores.prior.tolist() == pytest.approx([1, 0, 0])  # type: ignore[union-attr]


def test_the_prior_counts_only_samples_of_the_last_epoch(bare: Callable[..., Bare]) -> None:
    """Where every epoch draws its own: those of epoch 3 are the last two, of which one is kept."""
    made = at_epoch(bare(*SETUP, given=GIVEN, num_classes=3), 3)
    made.trainer.datamodule.rows = lambda epoch: torch.tensor([1, 2] if epoch == 2 else [0, 1])
    made.trainer.datamodule.train_index = torch.tensor([0, 1])
    made.table["selected"][:] = torch.tensor([True, False, True])
    at_epoch(made, 4)
    assert made.method.cores.prior.tolist() == pytest.approx([0, 1, 0])  # type: ignore[union-attr]


def test_the_ramp_of_the_strength_by_hand(bare: Callable[..., Bare]) -> None:
    made = bare(*SETUP, given=GIVEN, num_classes=3)
    betas = [at_epoch(made, epoch).method.cores.beta for epoch in range(1, 9)]
    assert betas == pytest.approx([0, 0, 0.5, 1, 1.5, 2, 2, 2])


@pytest.mark.parametrize("ramp", [(10, 10), (3, 2), (1,)])
def test_a_ramp_that_does_not_rise_is_refused(ramp: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="CORES2: ramp="):
        CORES2(SampleTable(torch.tensor([0, 1]), 2), strength=2, ramp=ramp, sieve_from=None)


def test_a_batch_without_kept_samples_has_no_gradient(bare: Callable[..., Bare]) -> None:
    made = at_epoch(bare(*SETUP, given=[2, 2], num_classes=3), 5)
    logits = probabilities([[0.6, 0.39, 0.01]] * 2)
    loss = made.loss(logits)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert logits.grad.abs().max() == 0


def test_the_sieve_uses_the_unperturbed_targets(bare: Callable[..., Bare]) -> None:
    made = at_epoch(bare(*SETUP, "sln.sigma=50", given=GIVEN, num_classes=3), 5)
    made.loss(probabilities(ROWS))
    assert made.table["selected"].tolist() == [True, False, True]


def test_the_divided_learning_rate_applies_to_the_step_alone(bare: Callable[..., Bare]) -> None:
    """Epoch 4: 1 + β = 2. Gradient .5 and weight decay .1 at θ = 1, learning rate .2: θ − .2/2 · (.5 + .1)."""
    made = at_epoch(bare(*SETUP, given=GIVEN, num_classes=3), 4)
    theta = torch.ones(1, requires_grad=True)
    optimizer = torch.optim.SGD([theta], lr=0.2, weight_decay=0.1)
    made.method._optimizers = [optimizer]
    made.method.descend((0.5 * theta).sum())
    assert theta.item() == pytest.approx(1 - 0.1 * 0.6)
    assert optimizer.param_groups[0]["lr"] == 0.2
