"""The properties of every loss in `conf/loss/` with its default values, and of the two with a transition matrix."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from closed_form import some_logits
from torch import Tensor
from torch.nn import functional as F

import slnlab.losses
from slnlab.config import CONF_DIR
from slnlab.losses import backward, expected_loss, forward

Loss = Callable[[Tensor], Tensor]


def to_the_next(num_classes: int) -> Tensor:
    """A transition matrix with zeros: 30 % of a class become the next, the last class is never wrong."""
    stays = torch.full((num_classes,), 0.7, dtype=torch.float64)
    stays[-1] = 1.0
    return torch.diag(stays) + torch.diag(1 - stays[:-1], 1)


def forward_to_the_next(logits: Tensor) -> Tensor:
    return forward(logits, to_the_next(logits.shape[1]))


def backward_to_the_next(logits: Tensor) -> Tensor:
    return backward(logits, to_the_next(logits.shape[1]))


# test_loss_options.py shows that the function's defaults are the values of its YAML.
OPTIONS = sorted(path.stem for path in (CONF_DIR / "loss").glob("*.yaml"))
NON_NEGATIVE = [
    *(pytest.param(getattr(slnlab.losses, name), id=name) for name in OPTIONS),
    pytest.param(forward_to_the_next, id="forward"),
]
FUNCTIONS = [*NON_NEGATIVE, pytest.param(backward_to_the_next, id="backward")]


@pytest.fixture
def logits() -> Tensor:
    return some_logits()


@pytest.mark.parametrize("loss", FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("scale", [1e4, -1e4, 88.0, 0.0])
def test_losses_are_finite_where_the_softmax_is_not(loss: Loss, dtype: torch.dtype, scale: float) -> None:
    logits = torch.tensor([[1.0, -1.0, 0.0], [1.0, 1.0, -1.0]]).mul(scale).to(dtype).requires_grad_()
    losses = loss(logits)
    assert bool(losses.isfinite().all())
    for entry in losses.flatten():
        (gradient,) = torch.autograd.grad(entry, logits, retain_graph=True)
        assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("loss", NON_NEGATIVE)
def test_likelihoods_and_distances_are_not_negative(loss: Loss, logits: Tensor) -> None:
    for scale in (1.0, 1e4):
        assert bool((loss(scale * logits) >= 0).all())


@pytest.mark.parametrize("loss", FUNCTIONS)
def test_any_target_weights_the_gradients(loss: Loss, logits: Tensor) -> None:
    """Stochastic label noise is one-hot + σz: what it adds is σ⟨z, L⟩, and its gradient is that of the classes."""
    one_hot = F.one_hot(torch.tensor([0, 3, 4, 1, 2, 2]), 5).double()
    z = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    per_class = torch.stack([torch.autograd.functional.jacobian(lambda f: loss(f[None])[0], row) for row in logits])
    logits.requires_grad_()
    losses = loss(logits)
    of_samples = expected_loss(one_hot + 0.5 * z, losses)
    given = losses.gather(1, one_hot.argmax(1, keepdim=True))[:, 0]
    torch.testing.assert_close(of_samples, given + 0.5 * (z * losses).sum(1), rtol=1e-12, atol=1e-12)
    (gradient,) = torch.autograd.grad(of_samples.sum(), logits)
    expected = torch.einsum("bc,bck->bk", one_hot + 0.5 * z, per_class)
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("loss", FUNCTIONS)
def test_losses_keep_their_dtypes(loss: Loss, logits: Tensor) -> None:
    assert loss(logits).dtype == torch.float64
    assert loss(logits.float()).dtype == torch.float32
    for half in (torch.float16, torch.bfloat16):
        rounded = logits.to(half)
        assert loss(rounded).dtype == torch.float32
        torch.testing.assert_close(loss(rounded), loss(rounded.float()), rtol=0, atol=0)


@pytest.mark.parametrize("loss", FUNCTIONS)
def test_autocast_does_not_change_a_loss(loss: Loss, logits: Tensor) -> None:
    targets = torch.eye(5).repeat(2, 1)[:6]
    expected = expected_loss(targets, loss(logits.float()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = expected_loss(targets, loss(logits.float()))
    torch.testing.assert_close(got, expected, rtol=0, atol=0)
