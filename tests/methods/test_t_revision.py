"""T-Revision: its weights, their gradients and its two phases by hand, and the run that it starts from."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from math import log
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from by_hand import Bare, probabilities
from torch import Tensor

from slnlab.config import compose
from slnlab.errors import ConfigError
from slnlab.losses import cross_entropy, forward
from slnlab.objectives import RevisedTransition
from slnlab.record.checkpoints import best_weights
from slnlab.record.metrics import read_metrics
from slnlab.record.result import Result
from slnlab.train import train
from slnlab.training import assemble, transition_run
from slnlab.training.settling import settle

T = [[0.75, 0.25], [0.0, 1.0]]


def double(transition: Any) -> RevisedTransition:
    return RevisedTransition(transition).double()


@pytest.mark.parametrize("revising", [False, True])
def test_the_loss_by_hand(revising: bool) -> None:
    """S = (.8, .2), so S·T = (.6, .4) and the weights are (4/3, ½)."""
    losses = double(T)(probabilities([[0.8, 0.2]]), revising)
    expected = torch.tensor([[-4 / 3 * log(0.8), -log(0.2) / 2]]).double()
    torch.testing.assert_close(losses, expected, rtol=1e-6, atol=0)


def test_the_weights_have_a_gradient_only_while_revising() -> None:
    """Constant w: w·(S − e_y). Else ∂w/∂T_jy = −S_y·S_j/(S·T)_y² for the given y = 1: −.2·(.8, .2)/.16."""
    shares = torch.tensor([0.8, 0.2]).double()
    for revising in (False, True):
        revised, logits = double(T), probabilities([[0.8, 0.2]])
        loss = revised(logits, revising)[0, 1]
        of_logits, of_correction = torch.autograd.grad(loss, [logits, revised.correction], allow_unused=True)
        constant = 0.5 * (shares - torch.tensor([0.0, 1.0]))
        if not revising:
            assert of_correction is None
            torch.testing.assert_close(of_logits[0], constant)
        else:
            column = 0.2 * shares / 0.16 * log(0.2)  # times the loss, −log .2
            torch.testing.assert_close(of_correction[:, 1], column, rtol=1e-5, atol=1e-7)
            assert (of_correction[:, 0] == 0).all()
            assert not torch.allclose(of_logits[0], constant)


def test_the_weighted_loss_of_noisy_labels_is_the_loss_of_true_labels() -> None:
    """Σ_y P(given y) L_y = Σ_y P(true y)·(−log S_y), if S is the true distribution."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 4, generator=generator).double()
    transition = (torch.randn(4, 4, generator=generator).double() + 3 * torch.eye(4)).softmax(1)
    shares, losses = logits.softmax(1), double(transition)(logits, revising=False)
    noisy, true = ((each * of).sum(1) for each, of in ((shares @ transition, losses), (shares, cross_entropy(logits))))
    torch.testing.assert_close(noisy, true, rtol=1e-6, atol=0)


def test_the_unit_matrix_gives_cross_entropy_for_a_softmax_of_0() -> None:
    logits = torch.tensor([[200.0, 0.0, -3.0], [0.0, 1.0, 2.0]], requires_grad=True)
    losses = RevisedTransition(3)(logits, revising=False)
    torch.testing.assert_close(losses, cross_entropy(logits))
    revised = RevisedTransition(3)
    (slopes,) = torch.autograd.grad(revised(logits).sum(), revised.correction)
    assert slopes.isfinite().all()


def test_the_correction_moves_the_matrix() -> None:
    revised = double(T)
    with torch.no_grad():
        revised.correction.copy_(torch.tensor([[0.25, 0.0], [-0.5, 0.0]]))
    torch.testing.assert_close(revised.matrix(), torch.tensor([[0.8, 0.2], [0.0, 1.0]]).double(), atol=1e-7, rtol=0)
    logits = probabilities([[0.8, 0.2]])  # (S·T)_0 = .8·1
    assert revised(logits)[0, 0].item() == pytest.approx(-log(0.8), rel=1e-6)
    assert revised(logits, revising=False)[0, 0].item() == pytest.approx(-4 / 3 * log(0.8), rel=1e-6)


def test_a_class_that_never_keeps_its_label_is_refused() -> None:
    with pytest.raises(ConfigError, match="class 1 never keeps its label"):
        RevisedTransition([[0.5, 0.5], [1.0, 0.0]])


def test_a_ragged_matrix_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"T-Revision: transition: must be a matrix"):
        RevisedTransition([[1, 0], [1]])


def test_the_method_has_the_known_matrix_and_two_phases(bare: Callable[..., Bare]) -> None:
    """No label is wrong, so all weights are 1 until ΔT moves."""
    trained = bare("method=t_revision", "method.transition=known", given=[1, 0], num_classes=10)
    method: Any = trained.method
    logits = probabilities([[0.9, 0.1] + [1e-30] * 8])
    assert trained.loss(logits, [0]).item() == pytest.approx(-log(0.1))
    with torch.no_grad():
        method.revised.correction.fill_(1.0)  # (S·T)_1 = .9·1 + .1·2
    assert trained.loss(logits, [0]).item() == pytest.approx(-log(0.1))
    method.revising = True
    assert trained.loss(logits, [0]).item() == pytest.approx(-log(0.1) / 11, rel=1e-5)
    assert method.transition_used.matrix[1] == pytest.approx([1 / 11, 2 / 11] + [1 / 11] * 8)
    assert method.transition_used.max_error == pytest.approx(9 / 11)


def test_sam_ascends_with_the_optimiser_of_the_phase(
    bare: Callable[..., Bare], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first phase steps the network's optimiser, the second Adam, which has no weight decay."""
    choice = ["method=t_revision", "method.transition=known", "sam.rho=0.1"]
    method: Any = bare(*choice, given=[1, 0], num_classes=10).method
    method._optimizers, found = ["SGD", "Adam"], list[Any]()
    monkeypatch.setattr(method.sam, "perturbed", lambda _, optimizer: nullcontext(found.append(optimizer)))
    for name in ("_differentiate", "before_step", "take_step"):
        monkeypatch.setattr(method, name, lambda *_, **__: None)
    for method.revising in (False, True):
        method.step(None)
    assert found == ["SGD", "Adam"]


SMALL = (
    *("data.train_size=200", "trainer.max_epochs=4", "optimizer.lr=0.05", "noise.rate=0.2", "method=t_revision"),
    *("trainer.accelerator=cpu", "trainer.progress=false", "data.test=false", "model.widths=[8,8,16,16]"),
)


@pytest.fixture(scope="module")
def estimated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Result]:
    """A settled run whose T̂ is estimated, and its result."""
    config = compose([*SMALL, "method.revision_lr=0.01", f"runs_dir={tmp_path_factory.mktemp('runs')}"])
    return settle(config), train(config)


def test_the_network_starts_from_the_weights_that_estimated_the_matrix(estimated: tuple[Any, Result]) -> None:
    spec, _ = estimated
    assert list(transition_run.needed(spec)) == []
    config = transition_run.filled(spec).config
    method, data = assemble.method(config), assemble.datamodule(config)
    data.prepare_data()
    data.setup()
    method._trainer = SimpleNamespace(datamodule=data)  # type: ignore[assignment]
    method.setup("fit")
    best: dict[str, Tensor] = best_weights(torch.load(config.method.start_from, weights_only=True))
    state = method.network.state_dict()
    assert all(torch.equal(state[key], tensor) for key, tensor in best.items())
    Path(config.method.start_from).unlink()
    (again,) = transition_run.needed(spec)
    assert again.file == Path(config.method.start_from), "without the weights the run is made again"


def test_the_result_has_the_revised_matrix_and_its_error(estimated: tuple[Any, Result]) -> None:
    spec, result = estimated
    used = result.transition_used
    assert used is not None
    assert used.source == "learned"
    true = torch.tensor(result.label_noise["transition_matrix"])
    assert used.max_error == pytest.approx((torch.tensor(used.matrix) - true).abs().max().item(), rel=1e-5)
    state = torch.load(spec.directory / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    estimate, correction = state["revised.estimate"], state["revised.correction"]
    assert (correction > 0).all(), "the loss falls as (S·T)_y grows"
    torch.testing.assert_close(forward(torch.eye(10) * 50, estimate).neg().exp(), estimate, atol=1e-4, rtol=0)
    total = (estimate + correction).clamp(min=1e-8)
    torch.testing.assert_close(torch.tensor(used.matrix), total / total.sum(1, keepdim=True))


def test_the_schedule_leaves_the_revision_alone() -> None:
    """A milestone divides the network's rate; the authors' Adam keeps its own."""
    method = assemble.method(settle(compose([*SMALL, "method.transition=known", "scheduler=multistep"])).config)
    optimizers, (schedule,) = method.configure_optimizers()
    assert len(optimizers) == 2
    assert schedule.optimizer is optimizers[0]


def test_the_momentum_model_follows_both_phases(tiny_run: Callable[..., tuple[Result, Path]]) -> None:
    """With a decay of 0 it is the network after each step, whichever optimiser made it."""
    choice = ["method=t_revision", "method.transition=known", "method.reweighting_epochs=2", "method.revision_lr=0.01"]
    _, directory = tiny_run(*choice, "momentum.enabled=true", "momentum.decay=0", "trainer.max_epochs=3")
    for row in read_metrics(directory / "metrics.csv"):
        assert row["test/momentum/loss"] == row["test/network/loss"]
    assert len({row["test/network/loss"] for row in read_metrics(directory / "metrics.csv")}) == 3
