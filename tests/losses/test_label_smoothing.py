"""Label smoothing as a transform of targets."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from slnlab.errors import ConfigError
from slnlab.losses import cross_entropy, expected_loss, gce, label_smoothing

LABELS = torch.tensor([2, 0])


def test_label_smoothing_by_hand() -> None:
    one_hot = F.one_hot(LABELS, 4)
    assert label_smoothing(one_hot, 0.8).tolist() == [
        pytest.approx([0.2, 0.2, 0.4, 0.2]),
        pytest.approx([0.4] + 3 * [0.2]),
    ]
    assert label_smoothing(one_hot, 0.0).tolist() == one_hot.tolist()
    assert label_smoothing(one_hot, 1.0).tolist() == [4 * [0.25]] * 2


def test_with_cross_entropy_it_equals_pytorchs() -> None:
    logits = torch.randn(2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    got = expected_loss(label_smoothing(F.one_hot(LABELS, 4).double(), 0.3), cross_entropy(logits))
    torch.testing.assert_close(got, F.cross_entropy(logits, LABELS, label_smoothing=0.3, reduction="none"))


def test_label_smoothing_mixes_in_the_mean_over_classes() -> None:
    generator = torch.Generator().manual_seed(0)
    losses = gce(torch.randn(3, 5, dtype=torch.float64, generator=generator))
    targets = torch.randn(3, 5, dtype=torch.float64, generator=generator)  # sums to anything
    expected = 0.7 * (targets * losses).sum(1) + 0.3 * losses.mean(1)
    torch.testing.assert_close(expected_loss(label_smoothing(targets, 0.3), losses), expected)


def test_dtypes_and_the_callers_targets_are_kept() -> None:
    one_hot = F.one_hot(LABELS, 3)
    for dtype in (torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.float32):
        targets = one_hot.to(dtype)
        smoothed = label_smoothing(targets, 0.1)
        assert smoothed.dtype == torch.float32
        torch.testing.assert_close(smoothed, label_smoothing(one_hot.float(), 0.1), rtol=0, atol=0)
        assert torch.equal(targets, one_hot.to(dtype))
    assert label_smoothing(one_hot.double(), 0.1).dtype == torch.float64


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_alpha_outside_its_range_is_refused(alpha: float) -> None:
    with pytest.raises(ConfigError, match=r"alpha = .*\[0, 1\]"):
        label_smoothing(torch.eye(3), alpha)


def test_class_indices_as_targets_are_refused() -> None:
    with pytest.raises(ValueError, match="one_hot"):
        label_smoothing(LABELS, 0.1)
