"""SOP: its loss by hand, gradients against closed forms, and the steps of u and v."""

from __future__ import annotations

from collections.abc import Callable
from math import log

import pytest
import torch
from by_hand import Bare, probabilities
from torch import Tensor

from slnlab.objectives import SampleNoise

SETUP = ("method=sop", "method.lr_u=0.5", "method.lr_v=0.25")


def learned(made: Bare, logits: Tensor) -> SampleNoise:
    """u and v of the batch, with the gradients of the loss in them."""
    batch = made.method.attached(made.batch(logits))
    made.method.loss(batch).backward()
    assert isinstance(batch.own, SampleNoise)
    return batch.own


def with_noise(made: Bare, u: list[float], v: list[list[float]]) -> Bare:
    made.table["sop_u"].copy_(torch.tensor(u))
    made.table["sop_v"].copy_(torch.tensor(v))
    return made


def test_the_loss_by_hand(bare: Callable[..., Bare]) -> None:
    """Given 1, S = (.5, .3, .2), u = .2, v = (.3, 9, −.1), so U = (0, .04, 0) and V = (.09, 0, .01).

    S + U − V = (.41, .34, .19), sum .94. The argmax is 0: (1, 0, 0) + U − V − (0, 1, 0) = (.91, −.96, −.01).
    """
    made = with_noise(bare(*SETUP, given=[1], num_classes=3), [0.2], [[0.3, 9.0, -0.1]])
    loss = made.loss(probabilities([[0.5, 0.3, 0.2]]))
    assert loss.item() == pytest.approx(-log(0.34 / 0.94) + 0.91**2 + 0.96**2 + 0.01**2, rel=1e-5)


def test_the_gradients_are_the_closed_forms(bare: Callable[..., Bare]) -> None:
    """With w = S + U − V and W = Σw: ∂/∂U_y of −log(w_y/W) is −1/w_y + 1/W, the square adds 2·r_y; dU/du = 2u.

    v learns from the square alone, −2·r_c with dV/dv = 2v; the network from the first term alone.
    """
    given, u, v = 1, 0.2, [0.3, 9.0, -0.1]
    made = with_noise(bare(*SETUP, given=[given], num_classes=3), [u], [v])
    s = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    logits = probabilities([s.tolist()])
    noise = learned(made, logits)
    residual = [0.91, -0.96, -0.01]
    w = [0.41, 0.34, 0.19]
    assert noise.u.grad is not None
    assert noise.u.grad.tolist() == pytest.approx([2 * u * (-1 / 0.34 + 1 / 0.94 + 2 * residual[given])], rel=1e-4)
    expected_v = [-2 * residual[c] * 2 * v[c] if c != given else 0.0 for c in range(3)]
    assert noise.v.grad is not None
    assert noise.v.grad[0].tolist() == pytest.approx(expected_v, rel=1e-4, abs=1e-7)
    # ∂(−log w_y + log W)/∂S = −onehot/w_y + 1/W, through the softmax's Jacobian
    slope = torch.full((3,), 1 / sum(w), dtype=torch.float64)
    slope[given] -= 1 / w[given]
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad[0], s * (slope - s @ slope), rtol=1e-5, atol=1e-7)


def test_u_and_v_take_plain_steps_at_their_own_rates(bare: Callable[..., Bare]) -> None:
    """By the gradient of the mean over the batch: half of that above, and only for the rows of the batch."""
    made = with_noise(bare(*SETUP, given=[1, 1, 0], num_classes=3), [0.2, 0.2, 0.2], [[0.3, 9.0, -0.1]] * 3)
    logits: Tensor = probabilities([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]])
    made.method.step(made.batch(logits, index=[2, 0]))
    step_u = 0.5 * 2 * 0.2 * (-1 / 0.34 + 1 / 0.94 + 2 * -0.96) / 2
    assert made.table["sop_u"][0].item() == pytest.approx(0.2 - step_u, rel=1e-4)
    assert made.table["sop_v"][0].tolist() == pytest.approx(
        [0.3 + 0.25 * 2 * 0.91 * 0.6 / 2, 9.0, -0.1 + 0.25 * 2 * -0.01 * -0.2 / 2], rel=1e-4
    )
    assert made.table["sop_u"][1].item() == pytest.approx(0.2)
    assert made.table["sop_v"][1].tolist() == pytest.approx([0.3, 9.0, -0.1])
    assert not made.table["sop_u"].requires_grad


def test_u_and_v_start_small_and_differ(bare: Callable[..., Bare]) -> None:
    made = bare(*SETUP, given=[0, 1] * 500, num_classes=2)
    for name in ("sop_u", "sop_v"):
        assert made.table[name].std().item() == pytest.approx(1e-8, rel=0.1)
        assert made.table[name].mean().item() == pytest.approx(0, abs=1e-9)
    assert not torch.equal(
        made.table["sop_u"], bare(*SETUP, "seed=1", given=[0, 1] * 500, num_classes=2).table["sop_u"]
    )


def test_sln_does_not_change_the_squared_term(bare: Callable[..., Bare]) -> None:
    """U and V are of the unperturbed label, and so is what they are held against."""
    plain = with_noise(bare(*SETUP, given=[1], num_classes=3), [0.2], [[0.3, 9.0, -0.1]])
    noisy = with_noise(bare(*SETUP, "sln.sigma=3", given=[1], num_classes=3), [0.2], [[0.3, 9.0, -0.1]])
    rows = [[0.5, 0.3, 0.2]]
    without, perturbed = learned(plain, probabilities(rows)), learned(noisy, probabilities(rows))
    assert torch.equal(without.v.grad, perturbed.v.grad)  # type: ignore[arg-type]
    assert not torch.equal(without.u.grad, perturbed.u.grad)  # type: ignore[arg-type]
