"""SOP+: its loss by hand, and the gradients of each term."""

from __future__ import annotations

from collections.abc import Callable
from math import log
from pathlib import Path

import pytest
import torch
from by_hand import Bare, probabilities
from resuming import trained
from torch import Tensor

from slnlab.errors import ConfigError
from slnlab.objectives import SampleNoise

FIRST, SECOND = [[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]], [[0.2, 0.5, 0.3], [0.3, 0.6, 0.1]]


def made_by(bare: Callable[..., Bare], *overrides: str) -> tuple[Bare, Tensor, Tensor]:
    """Given 1 and 1, u = .2 and 0, v = (.3, 9, −.1) and 0; the method, and the logits of both views."""
    made = bare("method=sop_plus", *overrides, given=[1, 1], num_classes=3)
    made.table["sop_u"].copy_(torch.tensor([0.2, 0.0]))
    made.table["sop_v"].copy_(torch.tensor([[0.3, 9.0, -0.1], [0.0, 0.0, 0.0]]))
    first, second = probabilities(FIRST), probabilities(SECOND)
    made.method.second_view = lambda batch: second  # type: ignore[assignment]
    return made, first, second


def learned(made: Bare, first: Tensor) -> SampleNoise:
    """u and v of the batch, with the gradients of the loss in them."""
    batch = made.method.attached(made.batch(first))
    made.method.loss(batch).backward()
    assert isinstance(batch.own, SampleNoise)
    return batch.own


def test_the_loss_by_hand(bare: Callable[..., Bare]) -> None:
    """P_0 = (.41, .34, .19)/.94 as in SOP's test, P_1 = S; their mean is what has to be even.

    SOP's squares: (1, 0, 0) + (0, .04, 0) − (.09, 0, .01) − (0, 1, 0) = (.91, −.96, −.01), and none for the second.
    """
    made, first, _ = made_by(bare)
    p = [[0.41 / 0.94, 0.34 / 0.94, 0.19 / 0.94], [0.1, 0.8, 0.1]]
    sop = (-log(p[0][1]) + 0.91**2 + 0.96**2 + 0.01**2 - log(0.8)) / 2
    divergence = sum(a * log(a / b) for s, t in zip(FIRST, SECOND, strict=True) for a, b in zip(s, t, strict=True)) / 2
    balance = -sum(log(3 * (p[0][c] + p[1][c]) / 2) for c in range(3)) / 3
    assert made.loss(first).item() == pytest.approx(sop + 0.9 * divergence + 0.1 * balance, rel=1e-5)


def test_only_the_second_view_gets_the_consistency_gradient(bare: Callable[..., Bare]) -> None:
    """∂KL(S_1 ‖ S_2)/∂f_2 = S_2 − S_1, and the first view's gradient is the same without it."""
    made, first, second = made_by(bare, "method.consistency=0.5")
    made.loss(first).backward()
    expected = 0.5 * (torch.tensor(SECOND) - torch.tensor(FIRST)) / 2
    assert second.grad is not None
    torch.testing.assert_close(second.grad, expected.double(), rtol=1e-5, atol=1e-7)
    without, first_alone, second_alone = made_by(bare, "method.consistency=0")
    without.loss(first_alone).backward()
    torch.testing.assert_close(first.grad, first_alone.grad)
    assert second_alone.grad is not None
    assert second_alone.grad.abs().max() == 0


def test_the_balance_term_has_a_gradient_for_u_alone(bare: Callable[..., Bare]) -> None:
    """With W = .94: dP_c/dU_1 = (δ_c1 − P_c)/W, dU/du = 2u; the mean over two samples halves, and divides by P̄_c."""
    made, first, _ = made_by(bare, "method.balance=1")
    balanced = learned(made, first)
    without, first_alone, _ = made_by(bare, "method.balance=0")
    alone = learned(without, first_alone)
    p = [0.41 / 0.94, 0.34 / 0.94, 0.19 / 0.94]
    mean = [(a + b) / 2 for a, b in zip(p, [0.1, 0.8, 0.1], strict=True)]
    slope = -sum(((c == 1) - p[c]) / 0.94 / 2 / mean[c] for c in range(3)) / 3
    more = balanced.u.grad - alone.u.grad  # type: ignore[operator]
    assert more.tolist() == pytest.approx([2 * 0.2 * slope, 0.0], rel=1e-4, abs=1e-7)
    torch.testing.assert_close(balanced.v.grad, alone.v.grad)


def test_cifar10_constants_are_refused_on_one_channel(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"method\.view2_norm: cifar10.*1 channel"):
        trained(tmp_path / "run", "method=sop_plus", "method.view2_norm=cifar10")
