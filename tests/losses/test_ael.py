"""Asymmetric exponential loss, from its definition."""

from __future__ import annotations

from math import exp

import pytest
import torch
from closed_form import assert_closed_form, best_prediction, some_logits

from slnlab.errors import ConfigError
from slnlab.losses import ael, mae


def test_ael_by_hand() -> None:
    """S = (1/4, 3/4), a = 1/2."""
    logits = torch.tensor([[1.0, 3.0]], dtype=torch.float64).log()
    assert ael(logits, a=0.5)[0].tolist() == pytest.approx([exp(-0.5), exp(-1.5)], rel=1e-14)


@pytest.mark.parametrize("a", [2.5, 5.0, 1.5])
def test_value_and_gradient_are_the_closed_form(a: float) -> None:
    assert_closed_form(lambda logits: ael(logits, a), lambda s: (-s / a).exp(), lambda s: -(-s / a).exp() / a)


def test_for_a_large_scale_it_is_half_of_mae_up_to_a_constant() -> None:
    logits, a = some_logits(), 1e6
    torch.testing.assert_close(a * (ael(logits, a) - exp(-1 / a)), mae(logits) / 2, rtol=1e-5, atol=1e-9)


def test_it_chooses_the_likeliest_label_if_it_is_likely_enough() -> None:
    """It must be exp(1/2.5) = 1.49 times as likely as another."""
    assert best_prediction(ael, [0.5, 0.3, 0.2]) == [1, 0, 0]
    assert best_prediction(ael, [0.41, 0.39, 0.2]) != [1, 0, 0]


@pytest.mark.parametrize("a", [0.0, -1.0, float("inf"), float("nan")])
def test_a_outside_its_range_is_refused(a: float) -> None:
    with pytest.raises(ConfigError, match="ael: a = "):
        ael(torch.zeros(1, 2), a=a)
