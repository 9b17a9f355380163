"""Propositions 1–3 against closed forms of a linear classifier, and against gradients of single draws."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from slnlab.figures import gradient_noise
from slnlab.figures.gradient_noise import NoiseStd, measured, predicted, standard_error
from slnlab.losses import cross_entropy, expected_loss
from slnlab.sln import StochasticLabelNoise

CLASSES, SIZE, DRAWS = 4, 3, 2000


@pytest.fixture
def linear() -> tuple[nn.Linear, Tensor]:
    network = nn.Linear(SIZE, CLASSES)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        network.weight.copy_(2 * torch.randn(CLASSES, SIZE, generator=generator))
        network.bias.copy_(torch.randn(CLASSES, generator=generator))
    return network, torch.tensor([[0.5, -2.0, 0.0]])


def closed_form(network: nn.Linear, x: Tensor) -> NoiseStd:
    """f_k = ⟨w_k, x⟩ + b_k, so ∂f_k/∂w_ij = [k = i]·x_j and ∂log S_k/∂w_ij = ([k = i] − S_i)·x_j."""
    softmax = network(x)[0].softmax(0).detach()
    of_logits = torch.ones(CLASSES)
    of_softmax = torch.stack(
        [sum((float(k == i) - softmax[i]) ** 2 for k in range(CLASSES)).sqrt() for i in range(CLASSES)]
    )

    def both(at_logit: Tensor) -> Tensor:
        return torch.cat([(at_logit.unsqueeze(1) * x.abs()).flatten(), at_logit]).double()

    return NoiseStd(both(of_logits), of_softmax.double(), both(of_softmax))


def test_predictions_of_a_linear_classifier(linear: tuple[nn.Linear, Tensor]) -> None:
    found, expected = predicted(*linear), closed_form(*linear)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_measured_noise_agrees_with_the_closed_form(linear: tuple[nn.Linear, Tensor]) -> None:
    network, x = linear
    found = measured(network, x, torch.tensor([1]), DRAWS, torch.Generator().manual_seed(3))
    for one, other in zip(found, closed_form(network, x), strict=True):
        torch.testing.assert_close(one, other, rtol=4 * standard_error(DRAWS), atol=1e-6)


@pytest.mark.parametrize("memory", [2**25, 20])
def test_measured_noise_is_that_of_one_backward_pass_per_draw(memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network with batch norm and convolution; small memory means small parts."""
    monkeypatch.setattr(gradient_noise, "MEMORY", memory)
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(8, CLASSES)]
    network, image, label = nn.Sequential(*layers).eval(), torch.randn(1, 1, 4, 4), torch.tensor([2])
    noise = torch.randn(12, CLASSES, generator=torch.Generator().manual_seed(7))
    target, sln = torch.eye(CLASSES)[label], StochasticLabelNoise(1.0)
    gradients = []
    for z in noise:
        losses = cross_entropy(network(image))
        by_sln = expected_loss(sln(target, noise=z.unsqueeze(0)), losses)
        by_output = expected_loss(target, losses) + z @ network(image)[0]
        parts = [torch.autograd.grad(loss, [*network.parameters()], retain_graph=True) for loss in (by_output, by_sln)]
        gradients.append([torch.cat([gradient.flatten() for gradient in part]) for part in parts])
    expected = [torch.stack(column).std(0).double() for column in zip(*gradients, strict=True)]
    found = measured(network, image, label, 12, torch.Generator().manual_seed(7))
    torch.testing.assert_close(found.by_output_noise, expected[0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.by_label_noise, expected[1], rtol=1e-4, atol=1e-6)


def test_a_confident_prediction_stays_finite() -> None:
    """S_2 underflows in float32, its logarithm does not."""
    network = nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[200.0], [-200.0]]))
    found = predicted(network, torch.ones(1, 1))
    # ∂log S_1/∂w = (0, 0) and ∂log S_2/∂w = (−1, 1): Proposition 2 gives √(1 − 2S_i + C·S_i²) = 1 for both.
    assert found.by_label_noise.tolist() == pytest.approx([1.0, 1.0])
    assert found.on_logits.tolist() == pytest.approx([1.0, 1.0])
