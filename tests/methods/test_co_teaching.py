"""Co-teaching and its small-loss selection by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from resuming import trained
from saying import Says, batch_of, logits_of, with_table
from torch.nn.functional import cross_entropy
from torch.optim import SGD

from slnlab.config import check, compose
from slnlab.data.batches import Batch
from slnlab.errors import ConfigError
from slnlab.losses import cross_entropy as class_losses
from slnlab.methods.co_teaching import CoTeaching
from slnlab.methods.ensemble import Ensemble
from slnlab.methods.small_loss import chosen, keep_count, ramp, ranks
from slnlab.processes.distributed import Shard
from slnlab.record.result import LabelFindings, Result

P, P_2 = [0.9, 0.8, 0.3, 0.1], [0.2, 0.7, 0.6, 0.4]
"""Probabilities of the given label, class 0, by both networks: samples 0, 1 and 1, 2 have small losses."""


def bare(forget_rate: float = 0.5) -> CoTeaching:
    method = CoTeaching(
        Says(logits_of(P)),
        Says(logits_of(P_2)),
        class_losses=class_losses,
        forget_rate=forget_rate,
        ramp_epochs=0,
        optimizer=SGD,
    )
    with_table(method, [0, 0, 0, 0])
    return method


def test_an_ensemble_copies_the_logits_of_its_members() -> None:
    """CUDA graphs do this: the next call overwrites the logits of the last one."""
    memory = torch.empty(1, 2)

    class Overwriting(torch.nn.Module):
        def __init__(self, said: float) -> None:
            super().__init__()
            self.said = said

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return memory.fill_(self.said)

    assert Ensemble([Overwriting(1.0), Overwriting(3.0)])(torch.zeros(1)).tolist() == [[2.0, 2.0]]


def test_each_network_learns_from_the_others_picks() -> None:
    """The gradient of a mean of −log p over two samples is (S − onehot)/2 at their logits, and 0 at the others'."""
    method = bare()
    loss = method.loss(batch_of(4))
    # Network 1 trains on samples 1 and 2 (network 2's choice), network 2 on 0 and 1.
    by_hand = -(math.log(0.8) + math.log(0.3)) / 2 - (math.log(0.2) + math.log(0.7)) / 2
    assert loss.item() == pytest.approx(by_hand)
    loss.backward()
    gradient, gradient_2 = (method.networks[name].logits.grad for name in ("network", "network_2"))
    torch.testing.assert_close(gradient, torch.tensor([[0, 0], [-0.1, 0.1], [-0.35, 0.35], [0, 0]]))
    torch.testing.assert_close(gradient_2, torch.tensor([[-0.4, 0.4], [-0.15, 0.15], [0, 0], [0, 0]]))
    assert method.table["selected"].tolist() == [False, True, True, False]
    assert method.table["selected_2"].tolist() == [True, True, False, False]
    assert method.table["loss"].tolist() == pytest.approx([-math.log(p) for p in P])


def test_a_forget_rate_of_0_trains_both_networks_with_cross_entropy() -> None:
    given = torch.zeros(4, dtype=torch.int64)
    expected = cross_entropy(logits_of(P), given) + cross_entropy(logits_of(P_2), given)
    assert bare(forget_rate=0.0).loss(batch_of(4)).item() == pytest.approx(expected.item())


def test_sln_noise_enters_the_training_loss_but_not_the_selection() -> None:
    """Noise that would turn every order around: the choice is as without it."""
    method = bare()
    method.sln.sigma = 1.0
    noise = {"SLN": torch.tensor([[9.0, 0], [1, 0], [2, 0], [-9, 0]]), "SLN 2": torch.full((4, 2), 3.0)}
    method.normal = lambda purpose, batch: noise[purpose]  # type: ignore[method-assign]
    loss = method.loss(batch_of(4)).item()
    assert method.table["selected"].tolist() == [False, True, True, False]
    first = -(2 * math.log(0.8) + 3 * math.log(0.3)) / 2  # targets (1 + 1, 0) and (1 + 2, 0)
    second = -(4 * math.log(0.2) + 3 * math.log(0.8) + 4 * math.log(0.7) + 3 * math.log(0.3)) / 2
    assert loss == pytest.approx(first + second, rel=1e-5)


def test_two_processes_select_from_the_global_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each computes its half of the losses; what the halves add up to is the loss of one process."""
    whole = bare()
    total = whole.loss(batch_of(4)).item()
    everyones = {1: [-math.log(p) for p in P], 2: [-math.log(p) for p in P_2]}
    shares, selected = 0.0, []
    for part in (Shard(0, 2, 4), Shard(2, 4, 4)):
        method = bare()
        answers = iter((torch.tensor(everyones[1]), torch.tensor(everyones[2])))
        monkeypatch.setattr(Shard, "gather", lambda part, rows, answers=answers: next(answers))
        rows = torch.arange(part.start, part.stop)
        shares += method.loss(Batch(rows, rows, part)).item()
        selected += method.table["selected"][rows].tolist()
    assert shares == pytest.approx(total)
    assert selected == whole.table["selected"].tolist()


def test_a_batch_without_picks_takes_no_step() -> None:
    method, taken = bare(), []
    method.descend = taken.append  # type: ignore[method-assign]
    method.step(batch_of(1))  # int(0.5 · 1) = 0
    assert taken == []


@pytest.mark.parametrize(
    ("epoch", "ramp_epochs", "expected"),
    [(1, 10, 0), (2, 10, 1 / 9), (10, 10, 1), (11, 10, 1), (300, 10, 1), (1, 0, 1), (1, 1, 0), (2, 1, 1), (2, 3, 0.5)],
)
def test_the_ramp_by_hand(epoch: int, ramp_epochs: int, expected: float) -> None:
    """linspace(0, 1, 10) over epochs 1 to 10."""
    assert ramp(epoch, ramp_epochs) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("size", "rate", "kept"), [(128, 0.4, 76), (10, 0.9, 1), (4, 0.5, 2), (1, 0.4, 0), (80, 0, 80)]
)
def test_keep_count_by_hand(size: int, rate: float, kept: int) -> None:
    """int((1 − R)·B); 0.1 · 10 is one sample, whatever floating-point numbers say."""
    assert keep_count(size, rate) == kept


def test_ranks_by_hand() -> None:
    """The first of equals comes first; what is not a number is never among the small."""
    assert ranks(torch.tensor([0.5, math.nan, 0.1, 0.5, 0.2])).tolist() == [2, 4, 0, 3, 1]


def test_the_ensemble_averages_logits() -> None:
    """Where one network is unsure, the other decides."""
    one, two = torch.tensor([[1.0, 0.0, 0.9]]), torch.tensor([[-3.0, 0.0, 0.5]])
    said = Ensemble([Says(one), Says(two)])(torch.tensor([0]))
    torch.testing.assert_close(said, torch.tensor([[-1.0, 0.0, 0.7]]))


def test_findings_of_two_networks_are_averaged() -> None:
    def made(value: float | None) -> LabelFindings:
        return LabelFindings(
            given_accuracy=0.5, true_accuracy=value, memorised=None, recovered=0.25, auroc=value, average_precision=0.0
        )

    mean = LabelFindings.mean([made(0.5), made(1.0)])
    assert (mean.given_accuracy, mean.true_accuracy, mean.memorised, mean.recovered) == (0.5, 0.75, None, 0.25)
    assert LabelFindings.mean([made(0.5), made(None)]).auroc is None


def test_the_networks_start_differently_and_are_saved_once(tmp_path: Path) -> None:
    _, method, _ = trained(tmp_path / "run", "method=co_teaching", "trainer.max_epochs=1")
    one, two = (network.state_dict() for network in method.networks.values())
    assert not torch.equal(one["classifier.weight"], two["classifier.weight"])
    assert {name.split(".")[1] for name in method.state_dict()} == {"network", "network_2"}


def test_the_result_has_rows_for_networks_mean_and_ensemble(tiny_run: Callable[..., tuple[Result, Path]]) -> None:
    result, _ = tiny_run("method=co_teaching", "method.ramp_epochs=1", "data.noisy_val=20")
    assert set(result.rows) == {"network", "network_2", "ensemble", "mean"}
    one, two, mean = (result.rows[name] for name in ("network", "network_2", "mean"))
    assert mean.title == "Co-teaching"
    assert one.test_accuracy
    assert two.test_accuracy
    assert mean.test_accuracy
    assert mean.test_accuracy.last == pytest.approx((one.test_accuracy.last + two.test_accuracy.last) / 2, abs=1e-6)
    assert mean.noisy_val_accuracy
    assert mean.findings.given_accuracy == pytest.approx(
        (one.findings.given_accuracy + two.findings.given_accuracy) / 2
    )
    assert result.noise_rate_used
    assert (result.noise_rate_used.value, result.noise_rate_used.source) == (0.4, "configured")


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["method.forget_rate=1"], "method.forget_rate"),
        (["method.forget_rate=guessed"], "method.forget_rate"),
        (["method.ramp_epochs=-1"], "method.ramp_epochs"),
        (["noise=csv", "noise.path=README.md"], "method.forget_rate"),
        (["momentum.enabled=true", "correction.enabled=true"], "correction.enabled"),
    ],
)
def test_impossible_settings_are_refused(overrides: list[str], key: str) -> None:
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
        check(compose(["method=co_teaching", *overrides]))


def test_an_estimated_rate_is_allowed_for_unknown_noise() -> None:
    check(compose(["method=co_teaching", "noise=csv", "noise.path=README.md", "method.forget_rate=estimated"]))


def test_an_infinite_unselected_loss_has_no_effect() -> None:
    losses = torch.tensor([1.0, math.inf, 2.0], requires_grad=True)
    total = chosen(losses, torch.tensor([True, False, True])).sum()
    total.backward()
    assert total.item() == 3
    assert losses.grad is not None
    assert losses.grad.tolist() == [1, 0, 1]


def test_the_evaluation_of_the_ensemble_reuses_its_members_logits(tmp_path: Path) -> None:
    """Each network sees a batch of an evaluation once, and the ensemble's accuracy is that of the mean logits."""
    _, method, _ = trained(tmp_path / "run", "method=co_teaching", "trainer.max_epochs=1")
    (batch, *_) = method.trainer.datamodule.evaluation_batches("test")  # type: ignore[attr-defined]
    seen: list[torch.nn.Module] = []
    for network in method.networks.values():
        network.register_forward_hook(lambda module, *_: seen.append(module))
    method._evaluate("test", batch)
    assert seen == list(method.networks.values())
    expected = Ensemble(method.networks.values()).eval()(batch.image).argmax(1) == batch.label
    accuracy = method.evaluation.metrics["test", "ensemble"]["accuracy"]
    assert float(accuracy.compute()) == pytest.approx(float(expected.float().mean()))
