"""Class balance beside a loss: KL(uniform ‖ mean softmax of the batch)."""

from __future__ import annotations

from collections.abc import Callable
from math import log

import pytest
import torch
from by_hand import Bare
from tier import composed

from slnlab.config import check, compose
from slnlab.errors import ConfigError
from slnlab.training.settling import settle

LOGITS = torch.tensor([[log(3), 0.0], [log(3), 0.0]], dtype=torch.float64)
"""S = (3/4, 1/4) twice, so the penalty is ½ log(½ / ¾) + ½ log(½ / ¼) = ½ log(4/3)."""


@pytest.mark.parametrize(("strength", "penalty"), [(0, 0.0), (1, log(4 / 3) / 2), (3, 1.5 * log(4 / 3))])
def test_the_penalty_is_added_to_the_loss(strength: float, penalty: float, bare: Callable[..., Bare]) -> None:
    made = bare("method=ce", f"class_balance.strength={strength}", given=[0, 1], num_classes=2)
    cross_entropy = (log(4 / 3) + log(4)) / 2
    assert made.loss(LOGITS).item() == pytest.approx(cross_entropy + penalty)
    assert made.method.loss(made.batch(LOGITS), again=True).item() == pytest.approx(cross_entropy + penalty), "SAM"


def test_balanced_predictions_have_no_penalty_and_no_gradient(bare: Callable[..., Bare]) -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    made = bare("method=ce", "class_balance.strength=1", given=[0, 1], num_classes=2)
    alone = bare("method=ce", given=[0, 1], num_classes=2)
    gradients = []
    for each in (made, alone):
        leaf = logits.clone().requires_grad_()
        each.loss(leaf).backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients)


def test_a_run_without_it_keeps_its_identity() -> None:
    """The key came later than finished runs."""
    assert "class_balance" not in settle(compose()).identity
    assert settle(compose(["class_balance.strength=1"])).identity["class_balance"] == {"strength": 1}


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["class_balance.strength=-1"], "greater than or equal to 0"),
        (["method=dividemix", "class_balance.strength=1"], "does not take it"),
        (["method=sop_plus", "class_balance.strength=1"], r"method\.balance"),
    ],
)
def test_what_has_no_meaning_is_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check(composed(*overrides))
