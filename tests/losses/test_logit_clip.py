"""LogitClip, from its definition."""

from __future__ import annotations

import doctest
import importlib
from math import exp, log, sqrt

import pytest
import torch
from closed_form import some_logits

from slnlab.errors import ConfigError
from slnlab.losses import cross_entropy, logit_clip


def test_only_logits_above_the_norm_are_scaled() -> None:
    logits = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, -5.0]])
    torch.testing.assert_close(logit_clip(logits, 2.0), torch.tensor([[1.2, 1.6], [0.3, 0.4], [0.0, -2.0]]))
    assert logit_clip(logits, 0.0) is logits


def test_the_documented_example_holds() -> None:
    found = doctest.testmod(importlib.import_module("slnlab.losses._logit_clip"))
    assert found.attempted
    assert not found.failed


def test_a_clipped_sample_has_no_gradient_along_its_logits() -> None:
    """With u = f/‖f‖ the derivative is τ/‖f‖·(I − u uᵀ)."""
    f = torch.tensor([3.0, 0.0, 4.0], dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda row: logit_clip(row[None], 2.0)[0], f)
    u = f / 5
    torch.testing.assert_close(jacobian, 2 / 5 * (torch.eye(3, dtype=torch.float64) - u[:, None] * u))


def test_cross_entropy_stays_above_its_bound() -> None:
    """The loss of a class is smallest for logits along onehot − 1/C, which then differ by τ·√(C/(C − 1))."""
    bound = log(1 + 4 * exp(-2 * sqrt(5 / 4)))
    best = 1e3 * (torch.eye(5, dtype=torch.float64) - 0.2)
    assert cross_entropy(logit_clip(best, 2.0)).diagonal().tolist() == pytest.approx([bound] * 5)
    assert float(cross_entropy(logit_clip(1e3 * some_logits(), 2.0)).min()) > bound


def test_zero_and_huge_logits_have_finite_gradients() -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        logits = torch.tensor([[0.0, 0.0], [1e4, -1e4]], dtype=dtype, requires_grad=True)
        losses = cross_entropy(logit_clip(logits, 1.0))
        (gradient,) = torch.autograd.grad(losses[:, 0].sum(), logits)
        assert bool(gradient.isfinite().all())
    assert logit_clip(logits, 1.0).dtype == torch.float32


@pytest.mark.parametrize("tau", [-1.0, float("inf"), float("nan")])
def test_tau_outside_its_range_is_refused(tau: float) -> None:
    with pytest.raises(ConfigError, match="logit_clip: tau = "):
        logit_clip(torch.zeros(1, 2), tau)
