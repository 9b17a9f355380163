"""Loss, Hessian and sharpness equal closed forms of a linear softmax classifier and of a quadratic."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from slnlab.figures.mean_loss import MeanLoss, norm
from slnlab.figures.sharpness import largest_eigenvalue, sam_sharpness

CLASSES, SIZE, SAMPLES = 3, 5, 40


def linear_loss(batch_size: int = 16) -> MeanLoss:
    generator = torch.Generator().manual_seed(0)
    network = nn.Linear(SIZE, CLASSES, bias=False).double()
    with torch.no_grad():
        network.weight.copy_(torch.randn(CLASSES, SIZE, generator=generator))
    images = torch.randn(SAMPLES, SIZE, generator=generator, dtype=torch.float64)
    return MeanLoss(network, images, torch.arange(SAMPLES) % CLASSES, batch_size)


def hessian(loss: MeanLoss) -> Tensor:
    """mean over samples of (diag S − S Sᵀ) ⊗ x xᵀ, for parameters in the order (class, input)."""
    softmax = loss.network(loss.images).softmax(1).detach()
    at_logits = torch.diag_embed(softmax) - softmax.unsqueeze(2) * softmax.unsqueeze(1)
    kronecker = torch.einsum("nab,ni,nj->aibj", at_logits, loss.images, loss.images)
    return kronecker.reshape(CLASSES * SIZE, CLASSES * SIZE) / SAMPLES


def test_hessian_products_of_a_linear_classifier() -> None:
    loss = linear_loss()
    vector = torch.randn(CLASSES, SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (found,) = loss.hessian_times([vector])
    torch.testing.assert_close(found.flatten(), hessian(loss) @ vector.flatten())


def test_largest_eigenvalue_of_a_linear_classifier() -> None:
    loss = linear_loss()
    expected = float(torch.linalg.eigvalsh(hessian(loss))[-1])
    found = largest_eigenvalue(loss)
    assert found == pytest.approx(expected, rel=1e-3)
    assert largest_eigenvalue(loss, seed=1) == pytest.approx(expected, rel=1e-3)


class Diagonal(MeanLoss):
    """A loss whose Hessian has these eigenvalues."""

    def __init__(self, eigenvalues: Tensor) -> None:
        self.eigenvalues, self.parameters = eigenvalues, [torch.zeros_like(eigenvalues)]

    def hessian_times(self, vector: Sequence[Tensor]) -> list[Tensor]:
        return [self.eigenvalues * vector[0]]


def test_the_largest_eigenvalue_is_no_absolute_value() -> None:
    eigenvalues = torch.linspace(-50, 2, 30, dtype=torch.float64)
    assert largest_eigenvalue(Diagonal(eigenvalues)) == pytest.approx(2, rel=1e-3)


def test_an_iteration_without_convergence_gives_no_eigenvalue() -> None:
    crowded = Diagonal(torch.linspace(1, 2, 5000, dtype=torch.float64))
    assert largest_eigenvalue(crowded, restarts=1) is None
    assert largest_eigenvalue(crowded) == pytest.approx(2, rel=1e-3)


def test_loss_and_gradient_do_not_depend_on_the_batch_size() -> None:
    whole, parts = linear_loss(SAMPLES), linear_loss(7)
    assert whole.at() == pytest.approx(cross_entropy(whole.network(whole.images), whole.labels).item())
    assert parts.at() == pytest.approx(whole.at())
    torch.testing.assert_close(parts.gradient(), whole.gradient())


def test_sam_sharpness_moves_along_the_gradient() -> None:
    loss = linear_loss()
    weight = loss.parameters[0]
    gradient = torch.autograd.grad(cross_entropy(loss.network(loss.images), loss.labels), weight)[0]
    before, expected = weight.detach().clone(), []
    for radius in (0.05, 0.5):
        moved = weight.detach() + radius * gradient / gradient.norm()
        expected.append(float(cross_entropy(loss.images @ moved.T, loss.labels)) - loss.at())
    assert sam_sharpness(loss, [0.05, 0.5]) == pytest.approx(expected)
    assert all(rise > 0 for rise in expected)
    assert torch.equal(weight, before)


def test_sam_sharpness_is_zero_where_the_gradient_is() -> None:
    network = nn.Linear(2, 2).double()
    nn.init.zeros_(network.weight)
    nn.init.zeros_(network.bias)
    images = torch.ones(4, 2, dtype=torch.float64)  # equal images, half of each label: a minimum
    assert sam_sharpness(MeanLoss(network, images, torch.tensor([0, 1, 0, 1]), 4), [0.1]) == [0.0]


def test_batch_norms_keep_their_statistics_and_the_network_its_weights() -> None:
    network = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)).eval()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    loss = MeanLoss(network, torch.randn(8, 4), torch.arange(8) % 3, 4)
    largest_eigenvalue(loss)
    sam_sharpness(loss, [0.1])
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_norm_is_that_of_the_flat_vector() -> None:
    assert norm([torch.tensor([3.0]), torch.tensor([[4.0, 12.0]])]) == pytest.approx(math.hypot(3, 4, 12))
    assert np.isfinite(norm([torch.zeros(2)]))
