"""Runs that train together: each equals its run alone."""

from __future__ import annotations

import copy
import csv
import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from slnlab.config import compose
from slnlab.launchers import batched
from slnlab.launchers.planned import Outcome, Planned, execute, execute_together
from slnlab.losses import Backward, Forward, cross_entropy, gce, nce_rce
from slnlab.methods.single_network import SingleNetwork
from slnlab.models import MLP, Linear
from slnlab.models.stacked import Stack
from slnlab.processes.stopping import Stopped
from slnlab.processes.turns import Turns
from slnlab.record.result import Result
from slnlab.training import assemble, stacked_epoch, together
from slnlab.training.settling import settle

CLASSES = 5
SMALL = (
    "data=features",
    "noise=sym",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
    "trainer.max_epochs=4",
    "data.batch_size=32",
)
LINEAR = ("model=linear", "method=sln_mo_lc", "correction.last_epochs=2", "momentum.decay=0.9")
RUNS = {
    "ce": ("model=linear", "method=ce", "noise.seed=3", "noise.rate=0.2"),
    "sln": (*LINEAR, "sln.sigma=0.4"),
    "sln, seed": (*LINEAR, "sln.sigma=1", "seed=1"),
    "sln, soft": (*LINEAR, "seed=2", "correction.prediction=soft", "momentum.decay=0.8"),
    "gce": (*LINEAR, "loss=gce", "loss.q=0.3", "optimizer.lr=0.1", "logit_clip.tau=1", "trainer.max_epochs=3"),
    "sce": (*LINEAR, "loss=sce", "clip_norm=0.5", "+optimizer.nesterov=true", "optimizer.weight_decay=0.01"),
    "no momentum": ("model=linear", "method=ce", "optimizer.momentum=0", "scheduler=cosine", "data.noisy_val=40"),
    "best epoch": (*LINEAR, "best_epoch.enabled=true", "data.noisy_val=40", "optimizer.lr=0.2"),
    "mlp": ("model=mlp", "model.widths=[8,6]", "method=sln_mo_lc", "correction.last_epochs=1"),
    "mlp, sigma": ("model=mlp", "model.widths=[8,6]", "method=sln", "sln.sigma=0.7", "seed=4", "loss=gce"),
}


class Done(NamedTuple):
    """A finished run."""

    result: Result
    rows: list[dict[str, str]]
    samples: dict[str, Any]
    weights: dict[str, torch.Tensor]


def planned(features: Path, folder: Path, *overrides: str) -> Planned:
    spec = settle(compose([*SMALL, f"data.source.root={features}", *overrides]))
    return Planned(spec, folder, overrides, " ".join(overrides))


def done(folder: Path) -> Done:
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with np.load(folder / "samples.npz") as samples:
        columns = dict(samples)
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return Done(Result.load(folder / "result.json"), rows, columns, checkpoint["state_dict"])


def assert_equal(one: Done, other: Done) -> None:
    """Equal up to float32 rounding."""
    assert one.result.identity == other.result.identity
    assert one.result.label_noise == other.result.label_noise
    assert list(one.result.rows) == list(other.result.rows)
    for name, row in one.result.rows.items():
        assert row.test_accuracy == other.result.rows[name].test_accuracy
    assert one.weights.keys() == other.weights.keys()
    for name, tensor in one.weights.items():
        torch.testing.assert_close(tensor, other.weights[name], rtol=1e-4, atol=1e-5)
    assert len(one.rows) == len(other.rows)  # blank: not measured in that epoch
    for row, same in zip(one.rows, other.rows, strict=True):
        assert row.keys() == same.keys()
        for key in row.keys() - {"seconds", "images_per_second"}:
            assert float(same[key] or -1) == pytest.approx(float(row[key] or -1), rel=1e-4, abs=1e-5), key
    assert one.samples.keys() == other.samples.keys()
    for name, column in one.samples.items():
        np.testing.assert_allclose(other.samples[name], column, rtol=1e-3, atol=1e-4, err_msg=name)


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150 training vectors and 60 of test, D = 7, in clusters."""
    generator = np.random.default_rng(0)
    labels = generator.integers(CLASSES, size=210)
    vectors = (generator.normal(size=(CLASSES, 7))[labels] + generator.normal(size=(210, 7))).astype(np.float32)
    path = tmp_path_factory.mktemp("features") / "features.npz"
    arrays = {"train_features": vectors[:150], "train_labels": labels[:150]}
    np.savez(path, **arrays, test_features=vectors[150:], test_labels=labels[150:])
    return path


@pytest.fixture(scope="module")
def alone(features: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Done]:
    folder = tmp_path_factory.mktemp("alone")
    for name, overrides in RUNS.items():
        assert execute(planned(features, folder / name, *overrides)).state == "done"
    return {name: done(folder / name) for name in RUNS}


def test_each_run_of_a_company_equals_its_run_alone(
    features: Path, alone: dict[str, Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs of three shapes, with and without momentum model; one that diverges takes no other with it."""
    diverging = "model=linear", "method=ce", "optimizer.lr=1e38"
    plan = [planned(features, tmp_path / name, *overrides) for name, overrides in RUNS.items()]
    stacks: list[int] = []
    train = stacked_epoch._Epoch.train
    monkeypatch.setattr(stacked_epoch._Epoch, "train", lambda self: (stacks.append(len(self.learners)), train(self))[1])
    *outcomes, failed = execute_together([*plan, planned(features, tmp_path / "diverging", *diverging)])
    assert outcomes == [Outcome("done")] * len(RUNS)
    assert max(stacks) == 4, "linear heads, with a momentum model or without one"
    assert failed.state == "failed"
    assert "the loss is" in failed.message or "not finite" in failed.message
    assert failed.sound
    for name, expected in alone.items():
        assert_equal(expected, done(tmp_path / name))
    assert "diverging" not in (tmp_path / "ce" / "train.log").read_text(), "each log has its own run's messages"
    assert "failed: " in (tmp_path / "diverging" / "train.log").read_text()


class NeverWaits(TorchDispatchMode):
    """Refuses operations that make the host wait for the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func not in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        return func(*args, **kwargs or {})


def test_no_step_of_a_company_waits_for_the_device(
    features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, trained = stacked_epoch._Epoch.train, list[int]()

    def never_waiting(self: stacked_epoch._Epoch) -> dict[str, Stack]:
        with NeverWaits():
            trained.append(len(self.learners))
            return train(self)

    monkeypatch.setattr(stacked_epoch._Epoch, "train", never_waiting)
    words = (*LINEAR, "sln.sigma=0.4", "trainer.max_epochs=2", "correction.last_epochs=1")
    plan = [planned(features, tmp_path / norm, *words, f"clip_norm={norm}") for norm in ("null", "0.5")]
    assert execute_together(plan) == [Outcome("done")] * 2
    assert trained == [2] * 2


def test_a_stopped_company_resumes_and_ends_as_if_undisturbed(
    features: Path, alone: dict[str, Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal comes during the second epoch, which all runs finish and save."""
    plan = [planned(features, tmp_path / name, *RUNS[name]) for name in ("sln", "sln, seed", "sln, soft")]
    epochs = []

    def stop_in_the_second(learners: list[stacked_epoch.Learner]) -> None:
        epochs.append(len(learners))
        if len(epochs) == 2:
            os.kill(os.getpid(), signal.SIGUSR2)
        stacked_epoch.train_epoch(learners)

    with monkeypatch.context() as patch:
        patch.setattr(together, "train_epoch", stop_in_the_second)
        with pytest.raises(Stopped):
            execute_together(plan)
    assert epochs == [3, 3]
    assert (tmp_path / "sln" / "metrics.csv").read_text().count("\n") == 3
    assert execute_together(plan) == [Outcome("done")] * 3
    for name in ("sln", "sln, seed", "sln, soft"):
        assert_equal(alone[name], done(tmp_path / name))


def test_a_run_stopped_within_an_epoch_joins_after_it(
    features: Path, alone: dict[str, Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun alone, stopped in its third step, and resumed beside a run that is an epoch behind."""
    begun, other = (planned(features, tmp_path / name, *RUNS[name]) for name in ("sln", "sln, seed"))
    step = SingleNetwork.step

    def stop(self: SingleNetwork, batch: Any) -> None:
        step(self, batch)
        if self.steps == 2:
            os.kill(os.getpid(), signal.SIGUSR2)

    with monkeypatch.context() as patch:
        patch.setattr(SingleNetwork, "step", stop)
        with pytest.raises(Stopped):
            execute(begun)
    assert (tmp_path / "sln" / "checkpoints" / "within-0.ckpt").exists()
    assert execute_together([begun, other]) == [Outcome("done")] * 2
    assert_equal(alone["sln"], done(tmp_path / "sln"))
    assert_equal(alone["sln, seed"], done(tmp_path / "sln, seed"))


def test_few_checkpoints_are_written_and_always_the_last(
    features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []
    save = together.RunRecord._save
    monkeypatch.setattr(
        together.RunRecord, "_save", lambda self, trainer: (saved.append(trainer.current_epoch), save(self, trainer))
    )
    plan = [planned(features, tmp_path / str(seed), *RUNS["ce"], f"seed={seed}") for seed in (0, 1)]
    execute_together(plan)
    assert saved == [3, 3]


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (RUNS["mlp"], None),
        (RUNS["gce"], None),
        (["method=elr"], "method=elr has steps of its own"),
        (["method=sam"], "sam.rho=0.1"),
        (["method=mixup"], "mixup.alpha=8"),
        (["class_balance.strength=1"], "class_balance.strength=1"),
        (["data.oversampling=true"], "data.oversampling=True"),
        (["model.dropout=0.1"], "model=mlp: dropout draws random numbers in each network's own order"),
        (["optimizer=adam"], "optimizer=adam is not SGD"),
        (["trainer.devices=2"], "trainer.devices=2"),
        (["logger=wandb"], "W&B records one run of a process at a time"),
    ],
)
def test_the_reason_why_a_run_trains_alone(features: Path, overrides: Sequence[str], reason: str | None) -> None:
    found = together.why_alone(planned(features, Path(), *overrides).config)
    assert found is None if reason is None else found is not None and found.startswith(reason)


def test_a_users_loss_trains_alone(features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may look at its whole batch, and a batch of a company has the samples of several runs."""
    code = "def centred(logits):\n    return -(logits - logits.mean(0)).log_softmax(1)\n"
    (tmp_path / "users_losses.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    config = planned(features, Path(), *RUNS["ce"], "loss._target_=users_losses.centred").spec.config
    assert together.why_alone(config) == "loss._target_=users_losses.centred may look at its whole batch"


def test_images_train_alone() -> None:
    assert together.why_alone(settle(compose([])).config) == "data=digits has images, not feature vectors"
    assert assemble.why_not_stacked(settle(compose([])).config) == "model=cnn: SmallCNN does not list its `layers`"


def test_runs_are_divided_into_groups_by_shape_and_device(features: Path, caplog: pytest.LogCaptureFixture) -> None:
    linear = [planned(features, Path(), "model=linear", f"seed={seed}") for seed in range(9)]
    elr = planned(features, Path(), "model=linear", "method=elr")
    mlp = [planned(features, Path(), f"seed={seed}") for seed in range(2)]
    plan = [*linear[:5], elr, *mlp, *linear[5:]]
    groups = batched._groups(plan, most=100, devices=2)
    assert groups == [[0, 1, 2, 3], [4, 8, 9, 10, 11], [6, 7], [5]]
    assert "1 of 12 runs train one by one: method=elr has steps of its own" in caplog.text
    assert [len(group) for group in batched._groups(linear, most=4, devices=1)] == [3, 3, 3]


def test_a_run_that_waits_for_another_does_not_train_in_its_company(features: Path, tmp_path: Path) -> None:
    """The company would stand still for ever: SLN keeps its lock while it waits for the steps of the others."""
    words = ("model=linear", "trainer.max_epochs=2", f"runs_dir={tmp_path}")
    first = planned(features, tmp_path, *words, "method=sln")
    first = replace(first, directory=first.spec.directory)
    second = planned(features, tmp_path / "second", *words, "method=gce", "init.from=sln")
    assert batched._groups([first, second], most=100, devices=1) == [[0], [1]]
    assert [outcome.state for outcome in batched.launch([first, second], tmp_path, devices=1)] == [
        "done",
        "done",
    ]
    assert batched._groups([second, first], most=100, devices=1) == [[0, 1]], "its first run exists"


def test_one_run_makes_what_the_others_need_and_they_train_together(features: Path, tmp_path: Path) -> None:
    words = ("model=linear", "trainer.max_epochs=2", f"runs_dir={tmp_path}", "init.from=sln")
    plan = [planned(features, tmp_path / f"{q}", *words, "method=gce", f"loss.q={q}") for q in (0.1, 0.2, 0.3)]
    assert batched._followers(plan) == {1, 2}
    outcomes = batched.launch(plan, tmp_path, devices=1)
    assert [outcome.state for outcome in outcomes] == ["done"] * 3
    assert batched._followers(plan) == set()


@pytest.mark.parametrize("network", [Linear(3, 4), MLP(3, 4, widths=(5, 2))])
@pytest.mark.parametrize("training", [True, False])
def test_a_stack_computes_what_its_networks_compute(network: nn.Module, training: bool) -> None:
    networks = [copy.deepcopy(network).train(training) for _ in range(3)]
    for each in networks:
        for tensor in each.state_dict().values():
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 1)
    inputs = torch.randn(3, 3, 6)
    stack = Stack(networks)
    found = stack(inputs, training)
    expected = torch.stack([each(vectors.t()).t() for each, vectors in zip(networks, inputs, strict=True)])
    torch.testing.assert_close(found, expected)
    if not training:
        shared = torch.stack([each(inputs[0].t()).t() for each in networks])
        torch.testing.assert_close(stack(inputs[0]), shared)
    fresh = [copy.deepcopy(network) for _ in range(3)]
    stack.copy_to(fresh)
    for each, copied in zip(networks, fresh, strict=True):
        torch.testing.assert_close(copied.state_dict(), each.state_dict())


def test_losses_of_columns_are_those_of_rows() -> None:
    """Losses that treat dimension 1 as the classes, and losses that need rows."""
    logits = torch.randn(2, 3, 7)
    transition = torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.0, 0.1, 0.9]])
    for losses in (
        cross_entropy,
        gce,
        nce_rce,
        Forward(transition),
        Backward(transition),
        lambda x: x - x.logsumexp(-1, True),
    ):
        by_rows = losses(logits.transpose(1, 2).reshape(14, 3)).view(2, 7, 3).transpose(1, 2)
        torch.testing.assert_close(stacked_epoch._by_columns(losses, 0.0, 3)(logits), by_rows)


def test_jobs_take_turns_in_a_fixed_order() -> None:
    """A job that ends early is not waited for, and the exception of one leaves the others alone."""
    events: list[str] = []

    def job(name: str, rounds: int) -> str:
        for number in range(rounds):
            events.append(f"{name}{number}")
            turns.wait(name)
        if name == "b":
            raise ValueError(name)
        return name

    turns = Turns(lambda names: events.append("".join(names)))
    one, two, three = turns.run([partial(job, "a", 1), partial(job, "b", 2), partial(job, "c", 2)])
    assert (one, str(two), three) == ("a", "b", "c")
    assert isinstance(two, ValueError)
    assert events == ["a0", "b0", "c0", "abc", "b1", "c1", "bc"]


def test_an_exception_at_the_meeting_is_raised_in_each_job() -> None:
    def meet(values: list[Any]) -> None:
        raise MemoryError(sum(values))

    def job(value: int) -> None:
        turns.wait(value)

    turns = Turns(meet)
    assert [str(found) for found in turns.run([partial(job, 1), partial(job, 2)])] == ["3", "3"]


def test_outcomes_come_in_the_order_of_the_plan(features: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The groups have another order."""
    plan = [
        planned(features, Path(), f"model={model}", f"seed={seed}") for seed in range(3) for model in ("mlp", "linear")
    ]

    def launch_groups(groups: list[list[Planned]], devices: list[str | None]) -> list[list[Outcome]]:
        return [[Outcome("failed", planned.name) for planned in group] for group in groups]

    monkeypatch.setattr(batched, "launch_groups", launch_groups)
    outcomes = batched.launch(plan, Path(), devices=1)
    assert [outcome.message for outcome in outcomes] == [planned.name for planned in plan]
