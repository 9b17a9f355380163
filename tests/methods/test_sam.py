"""Sharpness-aware minimisation by hand on a parabola, and in training against a plain loop."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, AdamW

from slnlab.config import compose
from slnlab.errors import ConfigError
from slnlab.methods import SingleNetwork
from slnlab.methods.sam import Decayed, SharpnessAware, running_statistics_kept
from slnlab.record.run_directory import RunDirectory
from slnlab.training import assemble
from slnlab.training.settling import settle


class Point(nn.Module):
    def __init__(self, *at: float) -> None:
        super().__init__()
        self.at = nn.Parameter(torch.tensor(at, dtype=torch.float64))


@pytest.mark.parametrize(
    ("decay_in_ascent", "decay_in_step", "worst", "gradient"),
    [
        (False, "own", (13.0, 12.0), (18.0, 0.0)),
        (True, "own", (5.0, 24.0), (10.0, 12.0)),
        (False, "perturbed", (13.0, 12.0), (31.0, 0.0)),
        (True, "perturbed", (5.0, 24.0), (15.0, 24.0)),
    ],
)
def test_one_step_on_a_parabola_by_hand(
    decay_in_ascent: bool, decay_in_step: Decayed, worst: tuple[float, float], gradient: tuple[float, float]
) -> None:
    """L = |θ − c|²/2 with c = (−5, 12), at (0, 12): g is (5, 0), with a decay of 1 it is (5, 12), of length 13.

    With ρ = 13 the ascent is by (13, 0) or by (5, 12); the gradient there is θ' − c. The optimiser adds the decay θ.
    For it to be θ', the ascent is in the gradient.
    """
    point, centre = Point(0.0, 12.0), torch.tensor([-5.0, 12.0], dtype=torch.float64)
    optimizer = SGD(point.parameters(), lr=1.0, weight_decay=1.0)
    ((point.at - centre) ** 2 / 2).sum().backward()
    with SharpnessAware(13.0, decay_in_ascent, decay_in_step).perturbed(point, optimizer):
        assert point.at.tolist() == pytest.approx(worst)
        optimizer.zero_grad()
        ((point.at - centre) ** 2 / 2).sum().backward()
    assert point.at.tolist() == [0.0, 12.0]
    assert point.at.grad is not None
    assert point.at.grad.tolist() == pytest.approx(gradient)
    optimizer.step()
    decayed = worst if decay_in_step == "perturbed" else (0.0, 12.0)
    by_hand = [at - (w - c) - d for at, w, c, d in zip((0.0, 12.0), worst, centre.tolist(), decayed, strict=True)]
    assert point.at.tolist() == pytest.approx(by_hand)


def test_the_decay_of_adamw_is_no_term_of_the_loss() -> None:
    """The parabola above: (5, 0) of length 5, ρ = 5, and the gradient at (5, 12) is (10, 0)."""
    point, centre = Point(0.0, 12.0), torch.tensor([-5.0, 12.0], dtype=torch.float64)
    optimizer = AdamW(point.parameters(), weight_decay=1.0)
    ((point.at - centre) ** 2 / 2).sum().backward()
    with SharpnessAware(5.0).perturbed(point, optimizer):
        assert point.at.tolist() == pytest.approx([5.0, 12.0])
        optimizer.zero_grad()
        ((point.at - centre) ** 2 / 2).sum().backward()
    assert point.at.grad is not None
    assert point.at.grad.tolist() == pytest.approx([10.0, 0.0])


def test_a_misspelt_option_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"sam\.decay_in_step='Own': must be 'perturbed' or 'own'"):
        SharpnessAware(0.1, decay_in_step="Own")  # type: ignore[arg-type]


@pytest.mark.parametrize("rho", [0.0, -1.0, math.inf, math.nan])
def test_the_radius_must_be_positive(rho: float) -> None:
    with pytest.raises(ConfigError, match=r"sam\.rho"):
        SharpnessAware(rho)


def test_the_second_pass_keeps_running_statistics() -> None:
    layer = nn.BatchNorm1d(2)
    batch = torch.randn(8, 2) + 5
    expected = nn.BatchNorm1d(2)(batch)
    before = copy.deepcopy(layer.state_dict())
    with running_statistics_kept(layer):
        torch.testing.assert_close(layer(batch), expected)
    assert all(torch.equal(before[name], tensor) for name, tensor in layer.state_dict().items())
    assert layer.track_running_stats
    frozen = nn.BatchNorm1d(2).eval()
    with running_statistics_kept(frozen):
        torch.testing.assert_close(frozen(batch), batch / math.sqrt(1 + 1e-5))


@pytest.mark.parametrize("decayed", ["perturbed", "own"])
def test_training_equals_the_papers_loop(decayed: str, tmp_path: Path) -> None:
    """Algorithm 1 written out: g with decay, up by ρ, the gradient there, back, step."""
    config = compose(
        [
            "method=ce",
            "sam.rho=0.1",
            f"sam.decay_in_step={decayed}",
            "optimizer.weight_decay=0.5",
            "data.train_size=60",
            "data.batch_size=10",
            "trainer.max_epochs=2",
            "trainer.accelerator=cpu",
            "trainer.progress=false",
            "model.widths=[4,4,8,8]",
        ]
    )
    method = assemble.method(config)
    assert isinstance(method, SingleNetwork)
    network = copy.deepcopy(method.network).train()
    assemble.trainer(settle(config), RunDirectory(tmp_path), [])[0].fit(method, assemble.datamodule(config))

    data = assemble.datamodule(config)
    data.prepare_data()
    data.setup()
    given, decay = data.noise_record.given, config.optimizer.weight_decay
    optimizer = SGD(network.parameters(), lr=config.optimizer.lr, momentum=0.9, weight_decay=decay)
    losses = torch.zeros(len(given))
    for epoch in range(2):
        for make in data.epoch(epoch):
            index, image, *_ = make()
            optimizer.zero_grad()
            logits = network(image)
            losses[index] = cross_entropy(logits.detach(), given[index], reduction="none")
            cross_entropy(logits, given[index]).backward()
            statistics = {name: buffer.clone() for name, buffer in network.named_buffers()}
            ascent = [parameter.grad + decay * parameter.data for parameter in network.parameters()]
            norm = torch.cat([direction.flatten() for direction in ascent]).norm()
            start = [parameter.data.clone() for parameter in network.parameters()]
            for parameter, direction in zip(network.parameters(), ascent, strict=True):
                parameter.data += 0.1 * direction / norm
            optimizer.zero_grad()
            cross_entropy(network(image), given[index]).backward()
            for parameter, former in zip(network.parameters(), start, strict=True):
                if decayed == "perturbed":  # decay · θ', of which the optimiser adds decay · θ
                    parameter.grad += decay * (parameter.data - former)
                parameter.data = former
            network.load_state_dict(statistics, strict=False)
            optimizer.step()
    for name, tensor in method.network.state_dict().items():
        torch.testing.assert_close(tensor, network.state_dict()[name], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(method.table["loss"], losses, rtol=1e-3, atol=1e-4)  # of the first passes
    assert method.steps == 12
