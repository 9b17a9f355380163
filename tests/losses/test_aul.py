"""Asymmetric unhinged loss, from its definition."""

from __future__ import annotations

import pytest
import torch
from closed_form import assert_closed_form, best_prediction, some_logits

from slnlab.errors import ConfigError
from slnlab.losses import aul, mae

# The published values for CIFAR-10, alone and with NCE, and for CIFAR-100.
VALUES = [(5.5, 3.0), (6.3, 1.5), (6.0, 3.0)]


def test_aul_by_hand() -> None:
    """S = (1/4, 3/4), a = 2, q = 2: ((7/4)² − 1)/2 and ((5/4)² − 1)/2."""
    logits = torch.tensor([[1.0, 3.0]], dtype=torch.float64).log()
    expected = torch.tensor([[33 / 32, 9 / 32]], dtype=torch.float64)
    torch.testing.assert_close(aul(logits, a=2.0, q=2.0), expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize(("a", "q"), VALUES)
def test_value_and_gradient_are_the_closed_form(a: float, q: float) -> None:
    assert_closed_form(
        lambda logits: aul(logits, a, q), lambda s: ((a - s) ** q - (a - 1) ** q) / q, lambda s: -((a - s) ** (q - 1))
    )


def test_its_limits_are_half_of_mae_and_a_logarithm() -> None:
    logits = some_logits()
    torch.testing.assert_close(aul(logits, a=3.0, q=1.0), mae(logits) / 2)
    torch.testing.assert_close(aul(logits, a=3.0, q=1e-9), torch.log((3 - logits.softmax(1)) / 2), rtol=1e-7, atol=0)


def test_it_is_symmetric_only_for_the_exponent_one() -> None:
    """A loss whose sum over the classes is constant is robust to symmetric noise: Ghosh et al. (2017)."""
    logits = some_logits()
    torch.testing.assert_close(aul(logits, a=3.0, q=1.0).sum(1), torch.full((6,), 4.0, dtype=torch.float64))
    assert float(aul(logits, a=5.5, q=3.0).sum(1).std()) > 0.01


@pytest.mark.parametrize(("a", "q", "close"), [(5.5, 3.0, False), (1.5, 0.9, True)])
def test_it_chooses_the_likeliest_label(a: float, q: float, close: bool) -> None:
    """With q = 3 only if it is (5.5/4.5)² = 1.49 times as likely as another; with q ≤ 1 in any case."""
    assert best_prediction(lambda f: aul(f, a, q), [0.5, 0.3, 0.2]) == [1, 0, 0]
    assert (best_prediction(lambda f: aul(f, a, q), [0.41, 0.39, 0.2]) == [1, 0, 0]) is close


def test_an_a_next_to_one_has_finite_gradients_in_float32() -> None:
    """1.00000001 is 1 in float32, so a − S would be 0."""
    logits = torch.tensor([[200.0, 0.0]], requires_grad=True)
    aul(logits, a=1 + 1e-8, q=0.5).sum().backward()
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())


@pytest.mark.parametrize(("key", "value"), [("a", 1.0), ("a", float("inf")), ("q", 0.0), ("q", float("nan"))])
def test_values_outside_their_ranges_are_refused(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"aul: {key} = "):
        aul(torch.zeros(1, 2), **{key: value})
