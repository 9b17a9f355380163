"""Asymmetric mean squared error, from its definition."""

from __future__ import annotations

import pytest
import torch
from closed_form import best_prediction, some_logits

from slnlab.errors import ConfigError
from slnlab.losses import amse


def test_amse_by_hand() -> None:
    """S = (1/4, 3/4) and a = 2: ((1/4 − 2)² + (3/4)²)/2 and ((1/4)² + (3/4 − 2)²)/2."""
    logits = torch.tensor([[1.0, 3.0]], dtype=torch.float64).log()
    expected = torch.tensor([[(49 + 9) / 32, (1 + 25) / 32]], dtype=torch.float64)
    torch.testing.assert_close(amse(logits, a=2.0), expected, rtol=1e-14, atol=0)


def test_at_one_it_is_the_mean_squared_error() -> None:
    logits = some_logits()
    target = torch.eye(5, dtype=torch.float64)
    expected = ((logits.softmax(1)[:, None] - target) ** 2).mean(2)
    torch.testing.assert_close(amse(logits, a=1.0), expected, rtol=1e-12, atol=1e-14)


def test_the_gradient_is_the_closed_form() -> None:
    """∂L_c/∂S_k = 2(S_k − a[k = c])/C."""
    s = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    logits = s.log().requires_grad_()
    amse(logits.unsqueeze(0), a=4.0)[0, 1].backward()
    slope = 2 * (s - torch.tensor([0.0, 4.0, 0.0], dtype=torch.float64)) / 3
    torch.testing.assert_close(logits.grad, s * (slope - (s * slope).sum()))


def test_it_chooses_the_likeliest_label_from_a_length_on() -> None:
    """The labels' probabilities are 0.5, 0.3 and 0.2, so a must be at least 1/(0.5 − 0.3) = 5."""
    weights = [0.5, 0.3, 0.2]
    assert best_prediction(lambda f: amse(f, a=5.0), weights) == [1, 0, 0]
    assert best_prediction(lambda f: amse(f, a=4.0), weights) == pytest.approx([0.9, 0.1, 0])


@pytest.mark.parametrize("a", [0.99, float("inf"), float("nan")])
def test_a_outside_its_range_is_refused(a: float) -> None:
    with pytest.raises(ConfigError, match="amse: a = "):
        amse(torch.zeros(1, 2), a=a)
