"""SGD noise of equations 1 and 2: its place and its standard deviation."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from by_hand import Bare, probabilities
from torch import nn
from torch.optim import SGD


def linear(made: Bare) -> list[nn.Parameter]:
    """Give it a network with 6,000 weights, and its optimiser."""
    network = nn.Sequential(nn.Linear(3, 1000), nn.Linear(1000, 3)).double()
    made.method.networks["network"] = network
    made.method._optimizers = [SGD(network.parameters(), lr=0.0)]
    return list(network.parameters())


@pytest.mark.parametrize(("per_sample", "std"), [(True, 0.2 / 4), (False, 0.2)])
def test_parameter_noise_has_its_standard_deviation(per_sample: bool, std: float, bare: Callable[..., Bare]) -> None:
    """Added to the gradient of the batch of 16: σ/√B of the samples' mean, or σ."""
    noisy = bare(
        "method=sgd_noise_parameters",
        "method.gradient_sigma=0.2",
        f"method.per_sample={per_sample}",
        given=[0, 1] * 8,
        num_classes=3,
    )
    parameters = linear(noisy)
    images = torch.randn(16, 3, dtype=torch.float64)
    loss = noisy.loss(images)
    clean = torch.autograd.grad(loss, parameters, retain_graph=True)
    added = []
    for step in range(2):
        noisy.method.steps = step
        noisy.method.step(noisy.batch(images))
        noise = [p.grad - g for p, g in zip(parameters, clean, strict=True) if p.grad is not None]
        added.append(torch.cat([part.flatten() for part in noise]))
    assert len(added[0]) == 7003
    for noise in added:
        assert noise.mean().item() == pytest.approx(0, abs=4 * std / 7003**0.5)
        assert noise.std().item() == pytest.approx(std, rel=0.05)
    assert torch.corrcoef(torch.stack(added))[0, 1].abs() < 0.05, "anew at every step"


def test_output_noise_has_its_standard_deviation(bare: Callable[..., Bare]) -> None:
    """The gradient at the logits is (S − y + σ·z)/B, z of its own for every sample and class, whatever S is."""
    made = bare("method=sgd_noise_outputs", "method.output_sigma=0.3", given=[0] * 4000, num_classes=3)
    rows = [[0.98, 0.01, 0.01]] * 2000 + [[0.2, 0.4, 0.4]] * 2000
    noise = []
    for step in range(2):
        made.method.steps = step
        logits = probabilities(rows)
        made.loss(logits).backward()
        assert logits.grad is not None
        expected = torch.tensor(rows, dtype=torch.float64) - torch.tensor([1.0, 0.0, 0.0])
        noise.append(4000 * logits.grad - expected)
    for half in (noise[0][:2000], noise[0][2000:]):
        assert half.std(0).tolist() == pytest.approx([0.3] * 3, rel=0.06)
        assert half.mean(0).tolist() == pytest.approx([0.0] * 3, abs=0.03)
    assert torch.corrcoef(noise[0].T).fill_diagonal_(0).abs().max() < 0.06
    assert torch.corrcoef(torch.stack([noise[0].flatten(), noise[1].flatten()]))[0, 1].abs() < 0.05
