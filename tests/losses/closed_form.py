"""A class-wise loss that depends on its own class's probability alone, against its definition."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

OfProbability = Callable[[Tensor], Tensor]


def some_logits() -> Tensor:
    """Logits (6, 5), float64."""
    return 3 * torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def assert_closed_form(loss: Callable[[Tensor], Tensor], value: OfProbability, slope: OfProbability) -> None:
    """L_c is `value` of S_c, and its derivative ∂L_c/∂f_k is `slope` of S_c times S_c(δ_ck − S_k)."""
    logits = some_logits()
    softmax = logits.exp() / logits.exp().sum(1, keepdim=True)
    torch.testing.assert_close(loss(logits), value(softmax), rtol=1e-12, atol=1e-12)
    for row, s in zip(logits, softmax, strict=True):
        got = torch.autograd.functional.jacobian(lambda f: loss(f[None])[0], row)
        expected = slope(s)[:, None] * s[:, None] * (torch.eye(5, dtype=torch.float64) - s)
        torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-12)


def best_prediction(loss: Callable[[Tensor], Tensor], weights: list[float]) -> list[float]:
    """The softmax over three classes with the smallest loss under a distribution of labels, on a grid of twentieths.

    A loss is "asymmetric" for these weights (Zhou et al., 2021) if it is the one-hot vector of the likeliest label.
    """
    steps = [(i / 20, j / 20, (20 - i - j) / 20) for i in range(21) for j in range(21 - i)]
    grid = torch.tensor(steps, dtype=torch.float64)
    losses = loss(grid.clamp(min=1e-300).log()) @ torch.tensor(weights, dtype=torch.float64)
    best: list[float] = grid[losses.argmin()].tolist()
    return best
