"""The class-wise losses against closed forms in float64, and at extreme logits; see also test_every_loss.py."""

from __future__ import annotations

from collections.abc import Callable
from math import log

import pytest
import torch
from closed_form import OfProbability, assert_closed_form, some_logits
from torch import Tensor
from torch.nn import functional as F

from slnlab.errors import ConfigError
from slnlab.losses import cross_entropy, expected_loss, gce, mae, phuber_ce, reverse_ce, sce


def gce_of(q: float) -> Callable[[Tensor], Tensor]:
    return lambda logits: gce(logits, q=q)


def value_of(q: float) -> Callable[[Tensor], Tensor]:
    return lambda s: (1 - s**q) / q


def slope_of(q: float) -> Callable[[Tensor], Tensor]:
    return lambda s: -(s ** (q - 1))


# Each with L as a function of S and with dL/dS, from its definition.
LOSSES = [
    pytest.param(cross_entropy, lambda s: -s.log(), lambda s: -1 / s, id="cross_entropy"),
    pytest.param(mae, lambda s: 2 - 2 * s, lambda s: torch.full_like(s, -2.0), id="mae"),
    pytest.param(gce, value_of(0.7), slope_of(0.7), id="gce-default"),
    pytest.param(gce_of(0.3), value_of(0.3), slope_of(0.3), id="gce-0.3"),
    pytest.param(gce_of(1.0), value_of(1.0), slope_of(1.0), id="gce-1"),
    pytest.param(
        lambda logits: phuber_ce(logits, tau=5.0),
        lambda s: torch.where(s <= 0.2, -5 * s + log(5) + 1, -s.log()),
        lambda s: -1 / s.clamp(min=0.2),
        id="phuber_ce-5",
    ),
    pytest.param(
        lambda logits: reverse_ce(logits, log_zero=-4.0),
        lambda s: 4 - 4 * s,
        lambda s: torch.full_like(s, -4.0),
        id="reverse_ce-4",
    ),
    pytest.param(
        lambda logits: sce(logits, alpha=6.0, beta=0.1, log_zero=-4.0),
        lambda s: -6 * s.log() + 0.4 - 0.4 * s,
        lambda s: -6 / s - 0.4,
        id="sce-6-0.1-4",
    ),
]


@pytest.fixture
def logits() -> Tensor:
    return some_logits()


@pytest.mark.parametrize(("loss", "value", "slope"), LOSSES)
def test_value_and_gradient_are_the_closed_form(
    loss: Callable[[Tensor], Tensor], value: OfProbability, slope: OfProbability
) -> None:
    assert_closed_form(loss, value, slope)


def test_values_at_the_extremes() -> None:
    logits = torch.tensor([[1e4, -1e4]])
    torch.testing.assert_close(cross_entropy(logits), torch.tensor([[0.0, 2e4]]))
    torch.testing.assert_close(mae(logits), torch.tensor([[0.0, 2.0]]))
    torch.testing.assert_close(gce(logits, q=0.25), torch.tensor([[0.0, 4.0]]))


def test_gce_interpolates_cross_entropy_and_half_of_mae(logits: Tensor) -> None:
    torch.testing.assert_close(gce(logits, q=1e-9), cross_entropy(logits), rtol=1e-7, atol=1e-12)
    torch.testing.assert_close(2 * gce(logits, q=1.0), mae(logits))
    # In float32 the plain (1 − S^q)/q has no correct digit left here.
    single = logits.float()
    torch.testing.assert_close(gce(single, q=1e-7), cross_entropy(single), rtol=1e-5, atol=0)


def test_a_confident_row_keeps_its_digits() -> None:
    logits = torch.tensor([[12.0, 0.0]])
    rest = torch.tensor([12.0], dtype=torch.float64).exp().add(1).reciprocal()  # 1 − S_0
    torch.testing.assert_close(mae(logits)[:, 0].double(), 2 * rest, rtol=0.02, atol=0)


@pytest.mark.parametrize("q", [0.0, -0.5, 1.0000001, float("nan"), float("inf")])
def test_gce_refuses_q_outside_its_range(q: float) -> None:
    with pytest.raises(ConfigError, match="q = "):
        gce(torch.zeros(1, 2), q=q)


def test_expected_loss_is_the_row_wise_product() -> None:
    targets = torch.tensor([[1.5, -0.5, 0.25], [0.0, 1.0, 0.0]])
    losses = torch.tensor([[2.0, 4.0, 8.0], [3.0, 5.0, 7.0]])
    assert expected_loss(targets, losses).tolist() == [3.0 - 2.0 + 2.0, 5.0]


def test_expected_cross_entropy_equals_pytorchs(logits: Tensor) -> None:
    labels = torch.tensor([0, 3, 4, 1, 2, 2])
    one_hot = F.one_hot(labels, 5)
    soft = torch.rand(6, 5, dtype=torch.float64)
    losses = cross_entropy(logits)
    torch.testing.assert_close(expected_loss(one_hot, losses), F.cross_entropy(logits, labels, reduction="none"))
    torch.testing.assert_close(expected_loss(soft, losses), F.cross_entropy(logits, soft, reduction="none"))
    assert expected_loss(soft.bfloat16(), losses.float()).dtype == torch.float32


def test_gradient_of_cross_entropy_under_a_target_that_does_not_sum_to_one(logits: Tensor) -> None:
    """∂ℓ/∂f = S·Σt − t (methods.md section 2)."""
    targets = torch.randn(6, 5, dtype=torch.float64)
    logits.requires_grad_()
    expected_loss(targets, cross_entropy(logits)).sum().backward()
    expected = logits.detach().softmax(1) * targets.sum(1, keepdim=True) - targets
    torch.testing.assert_close(logits.grad, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(6,), (6, 1), (1, 5), (5, 6), (6, 5, 1)])
def test_expected_loss_refuses_to_broadcast(shape: tuple[int, ...], logits: Tensor) -> None:
    with pytest.raises(ValueError, match="must both be"):
        expected_loss(torch.ones(shape), cross_entropy(logits))
