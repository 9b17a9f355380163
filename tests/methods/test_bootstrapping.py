"""Soft and hard bootstrapping by hand."""

from __future__ import annotations

from collections.abc import Callable
from math import log

import pytest
import torch
from by_hand import Bare, probabilities

from slnlab.errors import ConfigError
from slnlab.objectives import bootstrapping

ROW = [0.5, 0.3, 0.2]
ENTROPY = -sum(p * log(p) for p in ROW)


def test_soft_bootstrapping_by_hand(bare: Callable[..., Bare]) -> None:
    """β = ¾, given 2: ¾·(−ln .2) + ¼ of the entropy."""
    made = bare("method=bootstrapping_soft", "method.label_weight=0.75", given=[2], num_classes=3)
    logits = probabilities([ROW])
    loss = made.loss(logits)
    assert loss.item() == pytest.approx(-0.75 * log(0.2) + 0.25 * ENTROPY)
    loss.backward()
    # The entropy has its gradient, −S_c·(log S_c + H).
    s = torch.tensor(ROW, dtype=torch.float64)
    expected = 0.75 * (s - torch.tensor([0.0, 0.0, 1.0])) - 0.25 * s * (s.log() + ENTROPY)
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad[0], expected, rtol=1e-5, atol=1e-7)


def test_hard_bootstrapping_by_hand(bare: Callable[..., Bare]) -> None:
    """β = ¾, given 2, predicted 0: −¾·ln .2 − ¼·ln .5, and its gradient is S less that target."""
    made = bare("method=bootstrapping_hard", "method.label_weight=0.75", given=[2], num_classes=3)
    logits = probabilities([ROW])
    loss = made.loss(logits)
    assert loss.item() == pytest.approx(-0.75 * log(0.2) - 0.25 * log(0.5))
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[0].tolist() == pytest.approx([0.5 - 0.25, 0.3, 0.2 - 0.75])


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_an_impossible_label_has_a_bounded_loss(kind: str, bare: Callable[..., Bare]) -> None:
    made = bare(f"method=bootstrapping_{kind}", "method.label_weight=1", given=[1], num_classes=2)
    loss = made.loss(torch.tensor([[1e4, -1e4]], requires_grad=True))
    assert loss.item() == pytest.approx(-log(1e-7), rel=1e-6)


def test_a_misspelt_prediction_is_refused() -> None:
    with pytest.raises(ConfigError, match="bootstrapping: prediction='Soft': must be 'soft' or 'hard'"):
        bootstrapping(torch.zeros(1, 2), torch.eye(2)[:1], 0.5, "Soft")  # type: ignore[arg-type]
