"""Active negative loss as a method: its penalty and clipped gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from by_hand import Bare
from torch import nn
from torch.optim import SGD

from slnlab.config import compose


def with_weights(made: Bare) -> nn.Linear:
    network = nn.Linear(2, 2).double()
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[1.0, -2.0], [0.5, 0.0]]))
        network.bias.copy_(torch.tensor([0.25, -0.25]))
    made.method.networks["network"] = network
    made.method._optimizers = [SGD(network.parameters(), lr=0.0)]
    return network


def test_the_penalty_covers_all_parameters(bare: Callable[..., Bare]) -> None:
    """|1| + |−2| + |½| + |0| + |¼| + |−¼| = 4."""
    image = torch.tensor([[0.3, 0.7]], dtype=torch.float64)
    values = []
    for l1 in (0.0, 0.125):
        made = bare("method=anl_ce", f"method.l1={l1}", given=[1], num_classes=2)
        with_weights(made)
        values.append(made.loss(image).item())
    assert values[1] - values[0] == pytest.approx(0.5)


def test_gradients_are_clipped_including_the_penalty(bare: Callable[..., Bare]) -> None:
    """δ = 100 dwarfs the loss: five slopes of ±100 and one of 0 (|0|) become 5/√5 each."""
    made = bare("method=anl_ce", "method.l1=100", "loss.alpha=0", "loss.beta=0", given=[1], num_classes=2)
    network = with_weights(made)
    made.method.descend(made.loss(torch.tensor([[0.3, 0.7]], dtype=torch.float64)))
    slope = 5**0.5
    assert network.weight.grad is not None
    assert network.bias.grad is not None
    assert network.weight.grad.flatten().tolist() == pytest.approx([slope, -slope, slope, 0], abs=1e-4)
    assert network.bias.grad.tolist() == pytest.approx([slope, -slope], rel=1e-4)


def test_the_penalty_replaces_weight_decay() -> None:
    assert compose(["method=anl_ce", "data=cifar10"]).optimizer.weight_decay == 0
    assert compose(["method=ce", "data=cifar10"]).optimizer.weight_decay == 5e-4


def test_gradients_below_the_norm_are_not_clipped(bare: Callable[..., Bare]) -> None:
    made = bare("method=anl_ce", "method.l1=0.5", "loss.alpha=0", "loss.beta=0", given=[1], num_classes=2)
    network = with_weights(made)
    made.method.descend(made.loss(torch.tensor([[0.3, 0.7]], dtype=torch.float64)))
    assert network.bias.grad is not None
    assert network.bias.grad.tolist() == pytest.approx([0.5, -0.5])
