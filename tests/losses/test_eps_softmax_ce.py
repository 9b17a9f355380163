"""Cross entropy of the ε-softmax, from its definition."""

from __future__ import annotations

from math import log

import pytest
import torch
from closed_form import some_logits
from torch import Tensor

from slnlab.errors import ConfigError
from slnlab.losses import cross_entropy, eps_softmax_ce


def gradient(losses: Tensor, logits: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(losses.sum(), logits, retain_graph=True)
    return found


def test_eps_softmax_ce_by_hand() -> None:
    """S = (1/8, 3/8, 1/2) and m = 3: q = (1/8, 3/8, 7/2)/4."""
    logits = torch.tensor([[1.0, 3.0, 4.0]], dtype=torch.float64).log()
    expected = torch.tensor([[log(32), log(32 / 3), log(8 / 7)]], dtype=torch.float64)
    torch.testing.assert_close(eps_softmax_ce(logits, m=3.0), expected, rtol=1e-14, atol=0)


def test_the_eps_softmax_lies_near_a_one_hot_vector() -> None:
    """‖q − onehot‖₁ = 2(1 − S_max)/(m + 1), which is at most ε = 2(1 − 1/C)/(m + 1)."""
    logits = some_logits()
    q = torch.exp(-eps_softmax_ce(logits, m=9.0))
    torch.testing.assert_close(q.sum(1), torch.ones(6, dtype=torch.float64))
    softmax, predicted = logits.softmax(1).max(1)
    distance = (q - torch.eye(5, dtype=torch.float64)[predicted]).abs().sum(1)
    torch.testing.assert_close(distance, 2 * (1 - softmax) / 10)


def test_without_the_one_hot_prediction_it_is_cross_entropy() -> None:
    logits = some_logits()
    torch.testing.assert_close(eps_softmax_ce(logits, m=0.0), cross_entropy(logits), rtol=1e-13, atol=0)


def test_the_predicted_class_hardly_pulls() -> None:
    """The slope of −log((S + m)/(m + 1)) is 1/(S + m), that of cross entropy 1/S."""
    logits = torch.tensor([[1.0, 3.0, 4.0]], dtype=torch.float64).log().requires_grad_()
    of_class = gradient(eps_softmax_ce(logits, m=1e5)[:, 2], logits)
    torch.testing.assert_close(of_class, gradient(cross_entropy(logits)[:, 2], logits) * 0.5 / (0.5 + 1e5))
    assert float(of_class.abs().max()) < 1e-5


@pytest.mark.parametrize(("m", "slope"), [(1e5, 0.0), (1e4, 1.0)])
def test_another_class_pulls_as_with_cross_entropy_or_not_at_all(m: float, slope: float) -> None:
    """S_c = 5e-4 lies between (m + 1)·1e-8 = 1e-4 and 1e-3, below which the bound leaves no gradient."""
    logits = torch.tensor([[5e-4, 1 - 5e-4]], dtype=torch.float64).log().requires_grad_()
    losses = eps_softmax_ce(logits, m=m)[:, 0]
    expected = slope * gradient(cross_entropy(logits)[:, 0], logits)
    torch.testing.assert_close(gradient(losses, logits), expected, rtol=1e-12, atol=0)
    if not slope:
        assert losses.item() == pytest.approx(-log(1e-8))


def test_float32_keeps_the_digits_of_the_predicted_class() -> None:
    """1e5 + S has two decimals in float32, but the loss is 1e-5·(1 − S)."""
    logits = torch.tensor([[0.0, 2.0, 1.0]])
    exact = eps_softmax_ce(logits.double(), m=1e5)
    torch.testing.assert_close(eps_softmax_ce(logits, m=1e5).double(), exact, rtol=1e-5, atol=0)


@pytest.mark.parametrize("m", [-1.0, float("inf"), float("nan")])
def test_m_outside_its_range_is_refused(m: float) -> None:
    with pytest.raises(ConfigError, match="eps_softmax_ce: m = "):
        eps_softmax_ce(torch.zeros(1, 2), m=m)
