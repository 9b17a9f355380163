"""Partially Huberised cross entropy: its two pieces by hand."""

from __future__ import annotations

from math import log

import pytest
import torch

from slnlab.errors import ConfigError
from slnlab.losses import cross_entropy, mae, phuber_ce

# Softmax (1/8, 3/8, 1/2).
LOGITS = torch.tensor([[1.0, 3.0, 4.0]], dtype=torch.float64).log()


def test_tangent_and_logarithm_by_hand() -> None:
    expected = torch.tensor([[log(4) + 1 - 4 / 8, -log(3 / 8), log(2)]], dtype=torch.float64)
    torch.testing.assert_close(phuber_ce(LOGITS, tau=4.0), expected, rtol=1e-14, atol=0)
    expected = torch.tensor([[log(2) + 1 - 2 / 8, log(2) + 1 - 6 / 8, log(2)]], dtype=torch.float64)
    torch.testing.assert_close(phuber_ce(LOGITS, tau=2.0), expected, rtol=1e-14, atol=0)
    torch.testing.assert_close(phuber_ce(LOGITS), expected, rtol=1e-14, atol=0)


def test_the_pieces_meet_with_the_same_slope() -> None:
    """S = (p, 1 − p) about p = 1/τ: ∂L_0/∂f_0 = p·slope·(1 − p), with slope −τ from below and −1/p from above."""
    for tau in (2.0, 10.0, 30.0):
        at = torch.tensor([1 / tau - 1e-9, 1 / tau + 1e-9], dtype=torch.float64)
        logits = torch.stack([at.log(), (1 - at).log()], dim=1).requires_grad_()
        losses = phuber_ce(logits, tau)[:, 0]
        torch.testing.assert_close(losses, torch.full_like(at, log(tau)), rtol=1e-6, atol=0)
        (gradient,) = torch.autograd.grad(losses.sum(), logits)
        torch.testing.assert_close(gradient[:, 0], torch.full_like(at, -(1 - 1 / tau)), rtol=1e-6, atol=0)


def test_an_impossible_label_has_a_bounded_loss_and_no_gradient() -> None:
    logits = torch.tensor([[1e4, -1e4]], requires_grad=True)
    losses = phuber_ce(logits, tau=10.0)
    torch.testing.assert_close(losses, torch.tensor([[0.0, 1 + log(10)]]))
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    assert gradient.tolist() == [[0.0, 0.0]]


def test_phuber_ce_interpolates_half_of_mae_and_cross_entropy() -> None:
    torch.testing.assert_close(2 * phuber_ce(LOGITS, tau=1.0), mae(LOGITS))
    torch.testing.assert_close(phuber_ce(LOGITS, tau=9.0), cross_entropy(LOGITS))


@pytest.mark.parametrize("tau", [0.999, 0.0, -2.0, float("inf"), float("nan")])
def test_tau_outside_its_range_is_refused(tau: float) -> None:
    with pytest.raises(ConfigError, match=r"tau = .*at least 1"):
        phuber_ce(LOGITS, tau)
