"""The confidence penalty by hand."""

from __future__ import annotations

from collections.abc import Callable
from math import log

import pytest
import torch
from by_hand import Bare, probabilities


def test_the_confidence_penalty_by_hand(bare: Callable[..., Bare]) -> None:
    """S = (½, ¼, ¼) has entropy 1.5·ln 2; given 1: 2·ln 2 − ½·1.5·ln 2."""
    made = bare("method=confidence_penalty", "method.strength=0.5", given=[1], num_classes=3)
    assert made.loss(probabilities([[0.5, 0.25, 0.25]])).item() == pytest.approx(1.25 * log(2))


def test_the_penalty_alone_leads_to_the_uniform_prediction(bare: Callable[..., Bare]) -> None:
    """β → ∞ leaves the entropy: its gradient at S is S_c·(log S_c + H), zero at uniform."""
    made = bare("method=confidence_penalty", "method.strength=1000", given=[0], num_classes=2)
    logits = probabilities([[0.9, 0.1]])
    made.loss(logits).backward()
    assert logits.grad is not None
    assert logits.grad[0, 0] > 0 > logits.grad[0, 1]
    certain = torch.tensor([[1e4, -1e4]], requires_grad=True)
    loss = made.loss(certain)
    loss.backward()
    assert loss.isfinite()
    assert certain.grad is not None
    assert certain.grad.isfinite().all()
