"""Reverse and symmetric cross entropy, from their definitions."""

from __future__ import annotations

from math import log

import pytest
import torch

from slnlab.errors import ConfigError
from slnlab.losses import mae, reverse_ce, sce

# Softmax (1/8, 3/8, 1/2).
LOGITS = torch.tensor([[1.0, 3.0, 4.0]], dtype=torch.float64).log()


def test_reverse_cross_entropy_by_hand() -> None:
    expected = torch.tensor([[3.5, 2.5, 2.0]], dtype=torch.float64)
    torch.testing.assert_close(reverse_ce(LOGITS, log_zero=-4.0), expected, rtol=1e-14, atol=0)


def test_reverse_cross_entropy_clips_the_one_hot_label_at_1e_4() -> None:
    softmax = LOGITS.softmax(1)
    for c in range(3):
        clipped = torch.eye(3, dtype=torch.float64)[c].clamp(min=1e-4)
        expected = -(softmax * clipped.log()).sum(1)
        torch.testing.assert_close(reverse_ce(LOGITS)[:, c], expected, rtol=1e-12, atol=0)


def test_log_zero_scales_mae() -> None:
    torch.testing.assert_close(reverse_ce(LOGITS, log_zero=-2.0), mae(LOGITS))


def test_symmetric_cross_entropy_by_hand() -> None:
    """The published default: 0.1·CE + 1·RCE with log 0 = −9.2103."""
    expected = torch.tensor(
        [[0.1 * log(8) + 9.210340 * 7 / 8, 0.1 * log(8 / 3) + 9.210340 * 5 / 8, 0.1 * log(2) + 9.210340 / 2]],
        dtype=torch.float64,
    )
    torch.testing.assert_close(sce(LOGITS), expected, rtol=1e-6, atol=0)
    expected = torch.tensor([[6 * log(8) + 0.35, 6 * log(8 / 3) + 0.25, 6 * log(2) + 0.2]], dtype=torch.float64)
    torch.testing.assert_close(sce(LOGITS, 6.0, 0.1, -4.0), expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("value", [0.0, 4.0, float("-inf"), float("nan")])
def test_log_zero_outside_its_range_is_refused(value: float) -> None:
    for loss in (reverse_ce, sce):
        with pytest.raises(ConfigError, match=r"log_zero = .*negative"):
            loss(LOGITS, log_zero=value)


@pytest.mark.parametrize("value", [-0.1, float("inf"), float("nan")])
@pytest.mark.parametrize("key", ["alpha", "beta"])
def test_a_weight_outside_its_range_is_refused(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"sce: {key} = "):
        sce(LOGITS, **{key: value})
