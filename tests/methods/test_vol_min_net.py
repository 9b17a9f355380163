"""VolMinNet: its matrix, its volume and its loss by hand, and what its matrix learns in a run."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, log
from pathlib import Path

import pytest
import torch
from by_hand import Bare, probabilities
from resuming import made
from tier import composed

from slnlab.losses import forward
from slnlab.objectives import LearnedTransition


def test_the_matrix_by_hand() -> None:
    """W = 0: off-diagonal entries ½, so the rows of three classes are (1, ½, ½)/2."""
    torch.testing.assert_close(LearnedTransition(3, 0.0).matrix()[1], torch.tensor([0.25, 0.5, 0.25]))
    s = 1 / (1 + exp(2))
    matrix = LearnedTransition(10).matrix()
    assert matrix[0, 0].item() == pytest.approx(1 / (1 + 9 * s))
    torch.testing.assert_close(matrix.sum(1), torch.ones(10))


def test_the_volume_is_the_numerical_determinant() -> None:
    transition = LearnedTransition(4)
    with torch.no_grad():
        transition.weight.copy_(torch.randn(4, 4, generator=torch.Generator().manual_seed(0)))
    determinant = torch.det(transition.matrix().double()).item()
    assert transition.log_volume().item() == pytest.approx(log(abs(determinant)), rel=1e-5)


def test_the_losses_are_those_of_forward_correction() -> None:
    transition, logits = LearnedTransition(5, -1.0), torch.randn(7, 5, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(transition(logits), forward(logits, transition.matrix().detach().double()))
    assert transition(torch.tensor([[200.0, 0, 0, 0, 0]])).isfinite().all()


def test_the_loss_by_hand(bare: Callable[..., Bare]) -> None:
    """T of two classes at W = 0 is (⅔, ⅓; ⅓, ⅔), det ⅓. S = (.9, .1), given 1: S·T = (.633, .367)."""
    trained = bare("method=vol_min_net", "method.volume=0.5", given=[1], num_classes=2)
    trained.method.transition = LearnedTransition(2, 0.0)
    loss = trained.loss(probabilities([[0.9, 0.1]]))
    assert loss.item() == pytest.approx(-log(0.9 / 3 + 0.2 / 3) + 0.5 * log(1 / 3), rel=1e-5)


def test_a_run_learns_the_direction_of_the_noise(tmp_path: Path) -> None:
    """Class 7 is given as 1, and 1 stays: T[7, 1] grows beyond the rest of its row. The result has the error."""
    config = composed(
        *("method=vol_min_net", "noise=asym", "trainer.max_epochs=15", "data.test=false"),
        *("method.transition_lr=3", "trainer.accelerator=cpu", "trainer.progress=false", "model.widths=[8,8,16,16]"),
    )
    run = made(config, tmp_path)
    run.fit()
    used = run.method.transition_used
    assert used is not None
    assert used.source == "learned"
    assert used.max_error is not None
    others = [used.matrix[7][j] for j in range(10) if j not in (1, 7)]
    assert used.matrix[7][1] > 2 * max(others)
