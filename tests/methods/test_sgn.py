"""SGN: its loss as a density in log-ratios, and the parts of its targets."""

from __future__ import annotations

import copy
from collections.abc import Callable
from math import log, pi, sqrt

import pytest
import torch
from by_hand import Bare
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from slnlab.models import SmallCNN
from slnlab.objectives import shifted_gaussian


def helmert(classes: int) -> Tensor:
    """H (C − 1, C): row r has r entries 1/√(r(r + 1)), then −r/√(r(r + 1)), then 0."""
    rows = [[1.0] * r + [-float(r)] + [0.0] * (classes - r - 1) for r in range(1, classes)]
    return torch.tensor(rows, dtype=torch.float64) / torch.tensor([[sqrt(r * (r + 1))] for r in range(1, classes)])


def log_ratios(probabilities: Tensor) -> Tensor:
    """Isometric log-ratios (B, C − 1)."""
    logs = probabilities.log()
    return (logs - logs.mean(1, keepdim=True)) @ helmert(probabilities.shape[1]).T


def by_density(mean: Tensor, direction: Tensor, average: Tensor, shift: float, smoothing: float) -> Tensor:
    """−log N(t_c; …) of every class, with outputs (B, C − 1)."""
    classes = mean.shape[1] + 1
    labels = (1 - smoothing) * torch.eye(classes, dtype=torch.float64) + smoothing / classes
    root = torch.eye(classes - 1) + direction.unsqueeze(2) * direction.unsqueeze(1)
    losses = []
    for target in log_ratios(labels):
        density = MultivariateNormal(mean + shift * (target - average), covariance_matrix=root @ root)
        losses.append(-density.log_prob(target.expand_as(mean)))
    return torch.stack(losses, 1)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_the_loss_is_a_gaussian_density(classes: int) -> None:
    h = helmert(classes)
    torch.testing.assert_close(h @ h.T, torch.eye(classes - 1, dtype=torch.float64))
    torch.testing.assert_close(h.sum(1), torch.zeros(classes - 1, dtype=torch.float64))
    torch.manual_seed(0)
    logits, directions, averages = 2 * torch.randn(3, 4, classes, dtype=torch.float64)
    expected = by_density(logits @ h.T, directions @ h.T, averages @ h.T, 0.3, 0.1)
    torch.testing.assert_close(shifted_gaussian(logits, directions, averages, 0.3, 0.1), expected)
    torch.testing.assert_close((logits @ h.T @ h).softmax(1), logits.softmax(1))  # the prediction


def test_without_direction_and_shift_it_is_least_squares_by_hand() -> None:
    """ℓ = ½: s_0 = (¾, ¼), t_0 = log 3/√2. At μ = 0 the loss is ½·(log 3)²/2, at the label itself 0."""
    constant = log(2 * pi) / 2
    nothing = torch.zeros(1, 2, dtype=torch.float64)
    loss = shifted_gaussian(nothing, nothing, nothing, 0.0, 0.5)
    assert loss[0].tolist() == pytest.approx([log(3) ** 2 / 4 + constant] * 2)
    label = torch.tensor([[0.75, 0.25]], dtype=torch.float64).log()
    assert shifted_gaussian(label, nothing, nothing, 0.0, 0.5)[0].tolist() == pytest.approx(
        [constant, log(3) ** 2 + constant]  # ½·(2·log 3/√2)²
    )


def test_shifted_whole_the_average_is_the_target_of_every_class() -> None:
    logits, averages = torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[0.0, 2.0, 1.0]])
    losses = shifted_gaussian(logits, torch.zeros(1, 3), averages, 1.0)
    assert losses[0].tolist() == pytest.approx([1 + log(2 * pi)] * 3, rel=1e-5)  # ½·(1² + 0² + 1²)


def test_descent_moves_the_log_ratios_of_the_logits_like_outputs_of_their_own() -> None:
    """C outputs instead of C − 1 are no other method, with momentum and weight decay too."""
    torch.manual_seed(1)
    h, x = helmert(3), torch.randn(6, 4, dtype=torch.float64)
    whole = [nn.Parameter(torch.randn(3, 4, dtype=torch.float64)) for _ in range(2)]
    reduced = [nn.Parameter((h @ weight).detach()) for weight in whole]
    averages = torch.randn(6, 3, dtype=torch.float64)
    for weights in (whole, reduced):
        optimizer = torch.optim.SGD(weights, lr=0.01, momentum=0.9, weight_decay=0.1)
        for _ in range(3):
            mean, direction = (x @ weight.T for weight in weights)
            if weights is whole:
                losses = shifted_gaussian(mean, direction, averages, 0.2, 0.01)
            else:
                losses = by_density(mean, direction, averages @ h.T, 0.2, 0.01)
            optimizer.zero_grad()
            losses[:, 1].mean().backward()
            optimizer.step()
    for weight, its in zip(whole, reduced, strict=True):
        torch.testing.assert_close(h @ weight, its)


def test_the_momentum_model_predicts_in_train_mode_and_keeps_its_statistics(bare: Callable[..., Bare]) -> None:
    made = bare("method=sgn", "model.widths=[2,2,2,2]", "method.trust=0.5", given=[0, 1, 2], num_classes=10)
    network = SmallCNN(1, 10, (2, 2, 2, 2))
    average = copy.deepcopy(network).eval()
    made.method.networks["network"], made.method.judged["momentum"] = network, average
    before = copy.deepcopy(average.state_dict())
    images = torch.rand(6, 1, 8, 8)
    logits, directions, averages = made.method.outputs(images).chunk(3, 1)
    torch.testing.assert_close(averages, logits)  # the weights are still equal
    assert not torch.allclose(average(images), averages), "eval mode says something else"
    assert (directions != logits).any()
    assert not average.training
    assert all(torch.equal(before[key], value) for key, value in average.state_dict().items())
    made.method.objective(
        made.batch(images), torch.cat([logits, directions, averages], 1), torch.eye(10)[:6]
    ).sum().backward()
    assert all(parameter.grad is None for parameter in average.parameters())


def test_the_shift_grows_with_the_epochs(bare: Callable[..., Bare]) -> None:
    """α = ½: f = 0 at the start, and 1 − ½^2.5 in the middle of the third epoch."""
    made = bare("method=sgn", "method.trust=0.5", given=[0, 1], num_classes=2)
    made.trainer.datamodule.steps_per_epoch = 4
    assert made.method.shift() == 0  # type: ignore[attr-defined]
    made.trainer.current_epoch, made.method.steps_of_epoch = 2, 2
    assert made.method.shift() == pytest.approx(1 - 0.5**2.5)  # type: ignore[attr-defined]
