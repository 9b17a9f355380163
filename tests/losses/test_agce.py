"""Asymmetric generalised cross entropy, from its definition."""

from __future__ import annotations

import pytest
import torch
from closed_form import assert_closed_form, best_prediction, some_logits

from slnlab.errors import ConfigError
from slnlab.losses import agce, gce, mae

# The published values for CIFAR-10, alone and with NCE, and for CIFAR-100.
VALUES = [(0.6, 0.6), (6.0, 1.5), (1.8, 3.0)]


def test_agce_by_hand() -> None:
    """S = (1/4, 3/4), a = 2, q = 2: (9 − (9/4)²)/2 and (9 − (11/4)²)/2."""
    logits = torch.tensor([[1.0, 3.0]], dtype=torch.float64).log()
    expected = torch.tensor([[63 / 32, 23 / 32]], dtype=torch.float64)
    torch.testing.assert_close(agce(logits, a=2.0, q=2.0), expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize(("a", "q"), VALUES)
def test_value_and_gradient_are_the_closed_form(a: float, q: float) -> None:
    assert_closed_form(
        lambda logits: agce(logits, a, q), lambda s: ((a + 1) ** q - (a + s) ** q) / q, lambda s: -((a + s) ** (q - 1))
    )


def test_its_limits_are_generalised_cross_entropy_and_half_of_mae() -> None:
    logits = some_logits()
    torch.testing.assert_close(agce(logits, a=1e-14, q=0.7), gce(logits, q=0.7), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(agce(logits, a=3.0, q=1.0), mae(logits) / 2)
    torch.testing.assert_close(agce(logits, a=3.0, q=1e-9), torch.log(4 / (3 + logits.softmax(1))), rtol=1e-7, atol=0)


def test_it_is_symmetric_only_for_the_exponent_one() -> None:
    """A loss whose sum over the classes is constant is robust to symmetric noise: Ghosh et al. (2017)."""
    logits = some_logits()
    torch.testing.assert_close(agce(logits, a=3.0, q=1.0).sum(1), torch.full((6,), 4.0, dtype=torch.float64))
    assert float(agce(logits, a=0.6, q=0.6).sum(1).std()) > 0.01


@pytest.mark.parametrize(("a", "q", "close"), [(0.6, 0.6, False), (6.0, 1.5, True)])
def test_it_chooses_the_likeliest_label(a: float, q: float, close: bool) -> None:
    """With q = 0.6 only if it is (1.6/0.6)^0.4 = 1.48 times as likely as another; with q ≥ 1 in any case."""
    assert best_prediction(lambda f: agce(f, a, q), [0.5, 0.3, 0.2]) == [1, 0, 0]
    assert (best_prediction(lambda f: agce(f, a, q), [0.41, 0.39, 0.2]) == [1, 0, 0]) is close


def test_a_tiny_shift_has_finite_gradients_in_float32() -> None:
    logits = torch.tensor([[200.0, 0.0]], requires_grad=True)
    agce(logits, a=1e-9, q=0.5).sum().backward()
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
@pytest.mark.parametrize("key", ["a", "q"])
def test_values_outside_their_ranges_are_refused(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"agce: {key} = "):
        agce(torch.zeros(1, 2), **{key: value})
