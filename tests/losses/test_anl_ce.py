"""Active negative loss: normalised and normalised negative cross entropy by hand."""

from __future__ import annotations

from math import log

import pytest
import torch

from slnlab.errors import ConfigError
from slnlab.losses import anl_ce


def test_anl_ce_by_hand() -> None:
    """S = (½, ¼, ¼): NCE = (.2, .4, .4). z = log S + 7·log 10; NNCE = 1 − z/Σz."""
    s = [0.5, 0.25, 0.25]
    z = [log(p) + 7 * log(10) for p in s]
    expected = [2 * share + 3 * (1 - its / sum(z)) for share, its in zip([0.2, 0.4, 0.4], z, strict=True)]
    logits = torch.tensor([s], dtype=torch.float64).log()
    assert anl_ce(logits, alpha=2.0, beta=3.0)[0].tolist() == pytest.approx(expected)


def test_the_gradient_is_the_closed_form() -> None:
    """Of NNCE_y alone: with L = log S, ∂/∂L_c of −(L_y − a)/Σ(L − a) is −[c = y]/Z + z_y/Z²."""
    s = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    logits = s.log().requires_grad_()
    anl_ce(logits.unsqueeze(0), alpha=0.0, beta=1.0)[0, 1].backward()
    z = s.log() + 7 * log(10)
    slope = z[1] / z.sum() ** 2 - torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64) / z.sum()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, slope - s * slope.sum())


def test_anl_ce_at_the_extremes() -> None:
    """S = (1, 0): all of z is the first class's, so NNCE is 0 there and 1 at the other; NCE the same."""
    losses = anl_ce(torch.tensor([[1e4, -1e4]]), alpha=1.0, beta=1.0)
    assert losses[0].tolist() == pytest.approx([0, 2])


@pytest.mark.parametrize("weights", [{"alpha": -1.0}, {"beta": float("inf")}])
def test_weights_outside_their_range_are_refused(weights: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="anl_ce"):
        anl_ce(torch.zeros(1, 2), **weights)
