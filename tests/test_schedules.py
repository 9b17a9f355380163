"""Schedules by hand."""

from __future__ import annotations

import pytest
import torch
from torch.optim import SGD, Adam, Optimizer

from slnlab.errors import ConfigError
from slnlab.training.schedules import LinearDecay


def parameters() -> list[torch.Tensor]:
    return [torch.zeros(1, requires_grad=True)]


def rates(optimizer: Optimizer, schedule: LinearDecay, epochs: int) -> list[float]:
    found = []
    for _ in range(epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_the_linear_schedule_ends_at_zero() -> None:
    """Two of six epochs constant; then 4/4, 3/4, 2/4, 1/4 of it."""
    optimizer = SGD(parameters(), lr=0.8)
    assert rates(optimizer, LinearDecay(optimizer, 2, 6), 6) == pytest.approx([0.8, 0.8, 0.8, 0.6, 0.4, 0.2])
    assert optimizer.param_groups[0]["lr"] == 0


def test_beta1_changes_with_the_decay_and_survives_a_resume() -> None:
    optimizer = Adam(parameters(), lr=1.0, betas=(0.9, 0.99))
    schedule = LinearDecay(optimizer, 2, 6, beta1=0.1)
    rates(optimizer, schedule, 1)
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.99)
    rates(optimizer, schedule, 2)
    assert optimizer.param_groups[0]["betas"] == (0.1, 0.99)
    other = Adam(parameters(), lr=1.0, betas=(0.9, 0.99))
    resumed = LinearDecay(other, 2, 6, beta1=0.1)
    other.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(schedule.state_dict())
    assert rates(other, resumed, 3) == rates(optimizer, schedule, 3) == pytest.approx([0.75, 0.5, 0.25])
    assert other.param_groups[0]["betas"] == (0.1, 0.99)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="constant_epochs"):
        LinearDecay(SGD(parameters(), lr=1.0), 6, 6)
    with pytest.raises(ConfigError, match="beta1"):
        LinearDecay(SGD(parameters(), lr=1.0), 2, 6, beta1=0.1)
