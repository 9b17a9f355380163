"""ELR: running targets over two steps and the loss, by hand."""

from __future__ import annotations

from collections.abc import Callable
from math import log

import pytest
import torch
from by_hand import Bare, probabilities

from slnlab.objectives import early_learning


def test_two_steps_by_hand(bare: Callable[..., Bare]) -> None:
    """β = ¾, λ = 2, two classes; sample 1 of two is met twice, first at S = (.8, .2), then at (.4, .6)."""
    made = bare("method=elr", "method.strength=2", "method.decay=0.75", given=[1, 0], num_classes=2)
    loss = made.loss(probabilities([[0.8, 0.2]]), index=[1])
    # q = ¼·(.8, .2) = (.2, .05); ⟨q, S⟩ = .17
    assert made.table["elr"].tolist() == [[0, 0], pytest.approx([0.2, 0.05])]
    assert loss.item() == pytest.approx(-log(0.8) + 2 * log(1 - 0.17))
    loss = made.loss(probabilities([[0.4, 0.6]]), index=[1])
    # q = ¾·(.2, .05) + ¼·(.4, .6) = (.25, .1875); ⟨q, S⟩ = .1 + .1125
    assert made.table["elr"][1].tolist() == pytest.approx([0.25, 0.1875])
    assert loss.item() == pytest.approx(-log(0.4) + 2 * log(1 - 0.2125))
    assert made.table["elr"][0].tolist() == [0, 0]


def test_the_gradient_equals_the_papers(bare: Callable[..., Bare]) -> None:
    """Lemma 2: ∂ℓ/∂f = S − y + λ·g, g_c = S_c/(1 − ⟨q, S⟩)·Σ_k (q_k − q_c)·S_k, q without gradient."""
    strength, decay = 3.0, 0.7
    made = bare("method=elr", f"method.strength={strength}", f"method.decay={decay}", given=[2], num_classes=3)
    s = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    logits = probabilities([s.tolist()])
    made.loss(logits).backward()
    q = (1 - decay) * s
    g = s / (1 - q @ s) * (q @ s - q)
    assert logits.grad is not None
    expected = s - torch.tensor([0.0, 0.0, 1.0]) + strength * g
    torch.testing.assert_close(logits.grad[0], expected, rtol=1e-5, atol=1e-7)


def test_a_certain_prediction_is_clipped(bare: Callable[..., Bare]) -> None:
    """S = (1, 0): clipped (.9999, .0001), and the running target with it."""
    made = bare("method=elr", "method.strength=1", "method.decay=0", given=[0], num_classes=2)
    logits = torch.tensor([[1000.0, 0.0]], dtype=torch.float64, requires_grad=True)
    loss = made.loss(logits)
    assert made.table["elr"][0].tolist() == pytest.approx([0.9999, 0.0001])
    assert loss.item() == pytest.approx(log(1 - 0.9999**2 - 0.0001**2), rel=1e-3)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_certain_prediction_in_half_precision_is_clipped(dtype: torch.dtype) -> None:
    """1 − 1e-4 is 1 in half precision, whose logarithm of 1 − 1 would be −∞."""
    likely = torch.tensor([[1.0, 0.0]], dtype=dtype)
    assert early_learning(likely, likely.float()).item() == pytest.approx(log(1e-4), rel=1e-3)
