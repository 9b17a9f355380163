"""Forward and backward correction from their definitions, and refused matrices."""

from __future__ import annotations

from collections.abc import Callable
from math import log
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from slnlab.errors import ConfigError
from slnlab.losses import Backward, Forward, backward, cross_entropy, expected_loss, forward

# Softmax (1/8, 3/8, 1/2).
LOGITS = torch.tensor([[1.0, 3.0, 4.0]], dtype=torch.float64).log()
CYCLE = torch.tensor([[0.75, 0.25, 0.0], [0.0, 0.5, 0.5], [0.25, 0.0, 0.75]], dtype=torch.float64)
RANDOM_LOGITS = 3 * torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
RANDOM = torch.rand(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 2 * torch.eye(5)
RANDOM /= RANDOM.sum(1, keepdim=True)


def jacobian(loss: Callable[[Tensor], Tensor], row: Tensor) -> Tensor:
    made = torch.autograd.functional.jacobian(lambda f: loss(f[None])[0], row)
    assert isinstance(made, Tensor)
    return made


def test_forward_by_hand() -> None:
    """S·T = (1/8·3/4 + 1/2·1/4, 1/8·1/4 + 3/8·1/2, 3/8·1/2 + 1/2·3/4) = (7, 7, 18)/32."""
    expected = -torch.tensor([[7 / 32, 7 / 32, 18 / 32]], dtype=torch.float64).log()
    torch.testing.assert_close(forward(LOGITS, CYCLE), expected, rtol=1e-14, atol=0)


def test_backward_by_hand() -> None:
    """The inverse of ((3/4, 1/4), (1/2, 1/2)) is ((2, −1), (−2, 3)); S = (1/5, 4/5)."""
    logits = torch.tensor([[1.0, 4.0]], dtype=torch.float64).log()
    transition = torch.tensor([[0.75, 0.25], [0.5, 0.5]], dtype=torch.float64)
    expected = torch.tensor([[2 * log(5) - log(5 / 4), -2 * log(5) + 3 * log(5 / 4)]], dtype=torch.float64)
    torch.testing.assert_close(backward(logits, transition), expected, rtol=1e-13, atol=0)


def test_backward_with_the_authors_clip() -> None:
    """S = (1/5, 4/5) is clipped to (1/4, 3/4); where it is clipped the loss has no slope, and is bounded."""
    logits = torch.tensor([[1.0, 4.0]], dtype=torch.float64).log()
    transition = torch.tensor([[0.75, 0.25], [0.5, 0.5]], dtype=torch.float64)
    expected = torch.tensor([[2 * log(4) - log(4 / 3), -2 * log(4) + 3 * log(4 / 3)]], dtype=torch.float64)
    torch.testing.assert_close(backward(logits, transition, clip=0.25), expected, rtol=1e-13, atol=0)
    torch.testing.assert_close(backward(logits, transition, clip=1e-7), backward(logits, transition))
    for dtype in (torch.float32, torch.float64):
        sure = torch.tensor([[1e4, 0.0]], dtype=dtype, requires_grad=True)
        losses = backward(sure, transition, clip=1e-7)
        bound = -log(1e-7)  # S = (1 - 1e-7, 1e-7)
        torch.testing.assert_close(losses, torch.tensor([[-bound, 3 * bound]], dtype=dtype))
        (gradient,) = torch.autograd.grad(losses.sum(), sure)
        assert gradient.tolist() == [[0.0, 0.0]]


def test_forward_with_the_authors_clip() -> None:
    """S = (1/5, 4/5) is clipped to (1/4, 3/4): S·T = (3/4·1/4 + 1/2·3/4, 1/4·1/4 + 1/2·3/4) = (9, 7)/16."""
    logits = torch.tensor([[1.0, 4.0]], dtype=torch.float64).log()
    transition = torch.tensor([[0.75, 0.25], [0.5, 0.5]], dtype=torch.float64)
    expected = torch.tensor([[-log(9 / 16), -log(7 / 16)]], dtype=torch.float64)
    torch.testing.assert_close(forward(logits, transition, clip=0.25), expected, rtol=1e-13, atol=0)
    torch.testing.assert_close(forward(logits, transition, clip=1e-7), forward(logits, transition))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_clip_stops_the_gradient_of_saturated_predictions(dtype: torch.dtype) -> None:
    """Given 1 comes from true 1 alone, with 1/2. S = (1, e^−20) is clipped to (1 − 1e-7, 1e-7), and S·T is
    (1 − 1e-7/2, 1e-7/2); without the clip all the weight is on true 1.
    """
    transition = torch.tensor([[1.0, 0.0], [0.5, 0.5]], dtype=torch.float64)
    sure = torch.tensor([[20.0, 0.0]], dtype=dtype, requires_grad=True)
    losses = forward(sure, transition, clip=1e-7)
    expected = torch.tensor([[0.5e-7, log(2e7)]], dtype=dtype)
    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-7)
    (clipped,) = torch.autograd.grad(losses[0, 1], sure)
    assert clipped.tolist() == [[0.0, 0.0]]
    (free,) = torch.autograd.grad(forward(sure, transition)[0, 1], sure)
    torch.testing.assert_close(free, torch.tensor([[1.0, -1.0]], dtype=dtype), rtol=1e-6, atol=1e-6)


def test_a_never_given_label_has_no_gradient_in_clipped_forward() -> None:
    transition = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert forward(torch.tensor([[20.0, 0.0]]), transition, clip=1e-7)[0, 1].item() == pytest.approx(126 * log(2))


@pytest.mark.parametrize("loss", [Forward, Backward])
@pytest.mark.parametrize("clip", [0.0, 0.5, -1.0, float("nan")])
def test_a_clip_outside_its_range_is_refused(loss: type[Forward | Backward], clip: float) -> None:
    with pytest.raises(ConfigError, match=rf"^{loss.__name__.lower()}: clip = .*\(0, 1/2\)"):
        loss(CYCLE, clip)


def test_backward_of_symmetric_noise_is_the_closed_form() -> None:
    """T = aI + bJ with a + Cb = 1 has the inverse (I − bJ)/a, so L_y = (ℓ_y − bΣℓ)/a."""
    b = 0.4 / 4
    a = 1 - 5 * b
    ce = cross_entropy(RANDOM_LOGITS)
    expected = (ce - b * ce.sum(1, keepdim=True)) / a
    got = backward(RANDOM_LOGITS, a * torch.eye(5, dtype=torch.float64) + b)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    assert bool((got < 0).any()), "it is no likelihood"


def test_backward_is_unbiased() -> None:
    """Σ_j T_ij L_j = ℓ_i: what backward correction is for (theorem 1)."""
    averaged = backward(RANDOM_LOGITS, RANDOM) @ RANDOM.T
    torch.testing.assert_close(averaged, cross_entropy(RANDOM_LOGITS), rtol=1e-11, atol=1e-11)


def test_forward_is_cross_entropy_of_the_noisy_prediction() -> None:
    labels = torch.tensor([0, 3, 4, 1, 2, 2])
    expected = F.nll_loss((RANDOM_LOGITS.softmax(1) @ RANDOM).log(), labels, reduction="none")
    got = expected_loss(F.one_hot(labels, 5), forward(RANDOM_LOGITS, RANDOM))
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def test_gradients_are_the_closed_forms() -> None:
    """Forward: ∂L_y/∂f_k = S_k − S_k·T_ky/(S·T)_y, prediction less P(true k | given y). Backward: S_k − (T⁻¹)_yk."""
    inverse = torch.tensor(np.linalg.inv(RANDOM.numpy()))
    for row in RANDOM_LOGITS:
        s = row.exp() / row.exp().sum()
        posterior = (s[:, None] * RANDOM / (s @ RANDOM)).T  # (given, true)
        got = jacobian(Forward(RANDOM), row)
        torch.testing.assert_close(got, s - posterior, rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(jacobian(Backward(RANDOM), row), s - inverse, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("loss", [forward, backward])
def test_without_noise_both_are_cross_entropy(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    for logits in (RANDOM_LOGITS, 1e4 * RANDOM_LOGITS.float()):
        torch.testing.assert_close(loss(logits, torch.eye(5)), cross_entropy(logits))


def test_forward_has_value_and_slope_where_the_softmax_is_zero() -> None:
    """Given 1 comes from true 1 alone, with 1/2: −log(e^−20000/2), and all the weight is on true 1."""
    logits = torch.tensor([[1e4, -1e4]], requires_grad=True)
    losses = forward(logits, torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
    torch.testing.assert_close(losses, torch.tensor([[0.0, 2e4 + log(2)]]))
    (gradient,) = torch.autograd.grad(losses[0, 1], logits)
    assert gradient.tolist() == [[1.0, -1.0]]


def test_a_never_given_label_has_no_gradient_in_forward() -> None:
    """Its column of T is 0 and its loss −log 0; a target with weight there must still train on the others."""
    transition = torch.tensor([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    logits = LOGITS.clone().requires_grad_()
    losses = forward(logits, transition)
    # S·T = (1/16 + 1/2, 1/16 + 3/8, 0); the smallest normal float32 is 2^−126.
    expected = torch.tensor([[-log(9 / 16), -log(7 / 16), 126 * log(2)]], dtype=torch.float64)
    torch.testing.assert_close(losses, expected, rtol=1e-12, atol=0)
    (alone,) = torch.autograd.grad(losses[0, 2], logits, retain_graph=True)
    assert alone.tolist() == [[0.0, 0.0, 0.0]]
    perturbed = torch.tensor([[1.2, -0.3, 0.4]], dtype=torch.float64)
    (got,) = torch.autograd.grad(expected_loss(perturbed, losses).sum(), logits, retain_graph=True)
    (others,) = torch.autograd.grad((1.2 * losses[0, 0] - 0.3 * losses[0, 1]), logits)
    torch.testing.assert_close(got, others, rtol=1e-12, atol=0)


def test_the_matrix_is_copied_and_inverted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = RANDOM.clone().requires_grad_()
    losses = {loss: loss(RANDOM_LOGITS) for loss in (Forward(matrix), Backward(matrix))}
    with torch.no_grad():
        matrix.zero_()
    monkeypatch.setattr(torch.linalg, "inv", None)
    monkeypatch.setattr(torch, "inverse", None)
    for loss, before in losses.items():
        assert torch.equal(loss(RANDOM_LOGITS), before)
        assert not before.requires_grad
        assert loss(RANDOM_LOGITS.float()).dtype == torch.float32
        assert loss(RANDOM_LOGITS).dtype == torch.float64, "the float32 matrix is not taken for the float64 one"


@pytest.mark.parametrize("kind", [Forward, Backward])
def test_training_after_an_evaluation_has_gradients(kind: type[Forward | Backward]) -> None:
    loss, logits = kind([[0.8, 0.2], [0.2, 0.8]]), torch.zeros(1, 2, requires_grad=True)
    with torch.inference_mode():
        expected = loss(logits)
    loss(logits).sum().backward()
    assert torch.equal(loss(logits).detach(), expected)
    assert logits.grad is not None


def test_arrays_and_lists_are_accepted_as_matrices() -> None:
    for made in (CYCLE.numpy(), CYCLE.tolist(), CYCLE.float()):
        torch.testing.assert_close(forward(LOGITS, made), forward(LOGITS, CYCLE))
        torch.testing.assert_close(backward(LOGITS, made), backward(LOGITS, CYCLE))


@pytest.mark.parametrize("loss", [Forward, Backward])
@pytest.mark.parametrize(
    ("transition", "message"),
    [
        ([0.5, 0.5], r"shape \(2,\)"),
        ([[1.0, 0.0]], r"shape \(1, 2\)"),
        ([[1.0]], r"shape \(1, 1\)"),
        ("symmetric", r"matrix \(C, C\)"),
        ([[1.0, 0.0], [0.5, 0.6]], r"row 1 sums to 1\.1"),
        ([[0.5, 0.0], [0.5, 1.0]], r"row 0 sums to 0\.5.*transposed"),
        ([[0.7, 0.3], [-0.1, 1.1]], r"\[1, 0\] is -0\.1"),
        ([[0.7, 0.3], [float("nan"), 1.0]], r"\[1, 0\] is nan"),
        ([[70.0, 30.0], [20.0, 80.0]], r"\[0, 0\] is 70\.0"),
    ],
)
def test_an_invalid_transition_matrix_is_refused(
    loss: Callable[[Any], Callable[[Tensor], Tensor]], transition: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=rf"^(forward|backward): transition.*{message}"):
        loss(transition)


@pytest.mark.parametrize("num_classes", [2, 3, 10, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_backward_refuses_a_singular_matrix_that_forward_takes(num_classes: int, dtype: torch.dtype) -> None:
    """At a symmetric noise rate of (C − 1)/C the given label says nothing; rounding leaves it not quite singular."""
    transition = torch.full((num_classes, num_classes), 1 / num_classes, dtype=dtype)
    transition[0, 0] += torch.finfo(dtype).eps
    logits = torch.randn(2, num_classes, dtype=torch.float64)
    with pytest.raises(ConfigError, match=r"singular.*forward"):
        backward(logits, transition)
    torch.testing.assert_close(
        forward(logits, transition), torch.full_like(logits, log(num_classes)), rtol=1e-6, atol=0
    )


def test_backward_takes_strong_but_invertible_noise() -> None:
    """Symmetric noise at 0.89 of C = 10, where the given label says next to nothing (at 0.9 it says nothing)."""
    transition = torch.full((10, 10), 0.89 / 9) + (0.11 - 0.89 / 9) * torch.eye(10)
    assert bool(backward(torch.zeros(1, 10), transition).isfinite().all())


@pytest.mark.parametrize("loss", [forward, backward])
def test_another_number_of_classes_is_refused(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    with pytest.raises(ConfigError, match=r"of 3 classes, but logits \(6, 5\)"):
        loss(RANDOM_LOGITS, CYCLE)
