"""Label smoothing as a method; tests/losses has the transform."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from by_hand import Bare, probabilities


def test_smoothed_targets_by_hand(bare: Callable[..., Bare]) -> None:
    """α = .6, C = 3: the targets are (.2, .6, .2); −.2·ln ¼ − .6·ln ½ − .2·ln ¼ = (.4·2 + .6)·ln 2."""
    made = bare("method=label_smoothing", "method.alpha=0.6", given=[1], num_classes=3)
    loss = made.loss(probabilities([[0.25, 0.5, 0.25]]))
    assert loss.item() == pytest.approx(1.4 * 0.6931471805599453, rel=1e-6)


def test_sln_adds_its_full_noise_to_smoothed_targets(bare: Callable[..., Bare]) -> None:
    """Smoothing the noise with the targets would shrink it to (1 − α)·σ."""
    logits = torch.zeros(1, 2, dtype=torch.float64).expand(4000, 2)
    made = bare("method=label_smoothing", "method.alpha=0.5", "sln.sigma=2", given=[0] * 4000, num_classes=2)
    seen: list[torch.Tensor] = []
    made.method.class_losses = lambda rows: torch.ones_like(rows)  # ⟨t, 1⟩: the noise's sum
    objective = made.method.objective
    made.method.objective = lambda batch, rows, targets: seen.append(targets) or objective(batch, rows, targets)  # type: ignore[func-returns-value, method-assign]
    made.loss(logits)
    assert seen[0].mean(0).tolist() == pytest.approx([0.75, 0.25], abs=0.15)
    assert seen[0].std(0).tolist() == pytest.approx([2.0, 2.0], rel=0.05)
