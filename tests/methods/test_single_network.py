"""CE, SLN, SLN-MO and SLN-MO-LC in training, against plain loops."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytorch_lightning as pl
import resuming
import torch
from omegaconf import DictConfig
from sklearn.metrics import accuracy_score, log_loss
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax, one_hot
from torch.optim import SGD

from slnlab import SampleTable
from slnlab.callbacks import LabelCorrection, MomentumAverage, MomentumModel
from slnlab.config import compose
from slnlab.data import ImageDataModule
from slnlab.data.batches import Batch
from slnlab.errors import SlnlabError
from slnlab.losses import cross_entropy as class_losses
from slnlab.methods import SingleNetwork
from slnlab.models import SmallCNN
from slnlab.processes.distributed import Shard, shard
from slnlab.record.metrics import read_metrics
from slnlab.record.run_directory import RunDirectory
from slnlab.streams import Streams
from slnlab.training import assemble
from slnlab.training.settling import settle

STEPS = 19
"""To an epoch: more than fit in one training_step, the last batch a partial one."""

SMALL = (
    "data.train_size=110",
    "data.batch_size=6",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
    "model.widths=[4,4,8,8]",
    "seed=3",
)


class Run(NamedTuple):
    config: DictConfig
    data: ImageDataModule
    method: SingleNetwork
    trainer: pl.Trainer
    start: nn.Module
    """The network as it was initialised."""

    @property
    def momentum(self) -> nn.Module:
        (callback,) = (c for c in self.trainer.callbacks if isinstance(c, MomentumModel))
        return callback.module


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Run]:
    """The objects of a run, not yet trained."""

    def make(*overrides: str, callbacks: tuple[pl.Callback, ...] = ()) -> Run:
        config = compose([*SMALL, *overrides])
        directory = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        directory.mkdir()
        method = assemble.method(config)
        assert isinstance(method, SingleNetwork)
        trainer = assemble.trainer(settle(config), RunDirectory(directory), [])[0]
        trainer.callbacks.extend(callbacks)
        return Run(config, assemble.datamodule(config), method, trainer, copy.deepcopy(method.network))

    return make


def fit(run: Run) -> Run:
    run.trainer.fit(run.method, run.data)
    return run


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


class ByHand:
    """The loop: batches from the datamodule's public API, the network's first weights, torch for the rest."""

    def __init__(self, run: Run, objective: Callable[[Tensor, Tensor, int], Tensor], *, reset: bool = False) -> None:
        """`objective`: logits, given labels, number of the step → loss."""
        config = run.config
        self.data = assemble.datamodule(config)
        self.data.prepare_data()
        self.data.setup()
        record = self.data.noise_record
        self.network = run.start.train()
        self.momentum = copy.deepcopy(self.network.state_dict())
        self.epochs: list[dict[str, Tensor]] = []
        """The network's logits of every sample at its training step."""
        options = {key: config.optimizer[key] for key in ("lr", "momentum", "weight_decay")}
        optimizer, step = SGD(self.network.parameters(), **options), 0
        for epoch in range(config.trainer.max_epochs):
            if reset:
                optimizer = SGD(self.network.parameters(), **options)
            said = {"loss": torch.zeros(len(record.given)), "prediction": torch.zeros(len(record.given)).long()}
            for make in self.data.epoch(epoch):
                index, image, *_ = make()
                logits, given = self.network(image), record.given[index]
                said["loss"][index] = cross_entropy(logits.detach(), given, reduction="none")
                said["prediction"][index] = logits.argmax(1)
                optimizer.zero_grad()
                objective(logits, given, step).backward()
                optimizer.step()
                step += 1
                for name, tensor in self.network.state_dict().items():
                    if tensor.is_floating_point():
                        self.momentum[name] = torch.lerp(self.momentum[name], tensor, 1 - config.momentum.decay)
            self.epochs.append(said)
        self.steps = step


def plain_cross_entropy(logits: Tensor, given: Tensor, step: int) -> Tensor:
    return cross_entropy(logits, given)


# The training itself, bit for bit


@pytest.mark.parametrize("method", ["ce", "sln"])
def test_without_noise_training_is_plain_cross_entropy(method: str, made: Callable[..., Run]) -> None:
    sigma = ["sln.sigma=0"] if method == "sln" else []
    run = fit(made(f"method={method}", *sigma, "momentum.enabled=true", "trainer.max_epochs=2"))
    hand = ByHand(run, plain_cross_entropy)
    assert hand.steps == run.method.steps == 2 * STEPS
    assert equal(run.method.network.state_dict(), hand.network.state_dict())
    assert equal(run.momentum.state_dict(), hand.momentum)
    assert not torch.equal(run.momentum.classifier.weight, run.method.network.classifier.weight)


def sln(sigma: float, seed: int) -> Callable[[Tensor, Tensor, int], Tensor]:
    """Equation (3), its z drawn anew at every step from the run's own stream."""
    streams = Streams(seed)

    def objective(logits: Tensor, given: Tensor, step: int) -> Tensor:
        z = torch.randn(logits.shape, generator=streams("SLN", step))
        targets = one_hot(given, 10) + sigma * z
        return -(targets * log_softmax(logits, 1)).sum(1).mean()

    return objective


def test_with_noise_the_loss_is_equation_3(made: Callable[..., Run]) -> None:
    run = fit(made("method=sln", "sln.sigma=0.7", "trainer.max_epochs=2"))
    hand = ByHand(run, sln(0.7, seed=3))
    assert equal(run.method.network.state_dict(), hand.network.state_dict())
    assert equal(run.momentum.state_dict(), hand.momentum)


def test_reset_optimizer_each_epoch_forgets_momentum(made: Callable[..., Run]) -> None:
    """`optimizer.reset_each_epoch` forgets the momentum of the last step."""
    options = ("method=ce", "trainer.max_epochs=2", "optimizer.reset_each_epoch=true")
    run = fit(made(*options))
    start = copy.deepcopy(run.start)
    assert equal(run.method.network.state_dict(), ByHand(run, plain_cross_entropy, reset=True).network.state_dict())
    kept = ByHand(run._replace(start=start), plain_cross_entropy)
    assert not equal(run.method.network.state_dict(), kept.network.state_dict())


# What is measured


def test_training_metrics_use_the_unperturbed_labels(made: Callable[..., Run]) -> None:
    """σ = 2: a loss against the perturbed targets would be far off, negative at times."""
    run = fit(made("method=sln", "sln.sigma=2", "trainer.max_epochs=2", "data.noisy_val=7"))
    hand = ByHand(run, sln(2.0, seed=3))
    record, rows = hand.data.noise_record, hand.data.train_index
    wrong = (record.given != record.true)[rows]
    assert 20 < wrong.sum() < 60
    for row, said in zip(read_metrics(run_directory(run).metrics), hand.epochs, strict=True):
        loss, prediction = said["loss"][rows], said["prediction"][rows]
        agrees, is_true = prediction == record.given[rows], prediction == record.true[rows]
        expected = {
            "loss": loss.mean(),
            "accuracy": agrees.float().mean(),
            "true_accuracy": is_true.float().mean(),
            "loss_correct": loss[~wrong].mean(),
            "loss_wrong": loss[wrong].mean(),
            "memorised": agrees[wrong].float().mean(),
            "recovered": is_true[wrong].float().mean(),
        }
        assert {name: row[f"train/{name}"] for name in expected} == pytest.approx(
            {name: value.item() for name, value in expected.items()}, rel=1e-5
        )


def run_directory(run: Run) -> RunDirectory:
    return RunDirectory(Path(run.trainer.default_root_dir))


def bare_method(table: SampleTable, sigma: float = 1.0) -> SingleNetwork:
    """A method without a trainer."""
    network = SmallCNN(in_channels=1, num_classes=table.num_classes, widths=(2, 2, 2, 2))
    method = SingleNetwork(network, class_losses=class_losses, sigma=sigma, optimizer=SGD)
    method.table = table
    table.watch()
    return method


@pytest.mark.parametrize("shape", [(), (4, 1), (4, 3)])
def test_an_objective_that_is_no_vector_is_refused(shape: tuple[int, ...]) -> None:
    """A mean would be divided by B once more, without a word."""
    batch = Batch(torch.arange(4), torch.zeros(4, 1, 8, 8), Shard(0, 4, 4))
    assert batch.mean(torch.tensor([1.0, 2.0, 3.0, 6.0])) == 3
    with pytest.raises(ValueError, match=r"must be \(B,\)"):
        batch.mean(torch.zeros(shape))


def test_observed_losses_by_hand() -> None:
    """Softmax (½, ¼, ¼) and (⅛, ¾, ⅛); against the given labels, though one target was corrected."""
    table = SampleTable(torch.tensor([0, 1, 2, 0, 2]), 3)
    method = bare_method(table)
    table.correct(torch.tensor([4]), torch.tensor([0.0]), torch.tensor([1]))
    logits = torch.tensor([[1 / 8, 3 / 4, 1 / 8], [1 / 2, 1 / 4, 1 / 4]]).log().requires_grad_()
    method.observe(torch.tensor([4, 1]), logits)
    log2 = torch.tensor(2.0).log().item()
    assert table["loss"].tolist() == pytest.approx([0, 2 * log2, 0, 0, 3 * log2])
    assert table["prediction"].tolist() == [0, 0, 0, 0, 1]
    assert not table["loss"].requires_grad


def test_test_and_noisy_validation_metrics_equal_scikit_learns(made: Callable[..., Run]) -> None:
    """In batches that do not divide the split; the held-out labels are the noisy ones."""
    run = fit(made("method=sln", "trainer.max_epochs=2", "data.noisy_val=25", "data.eval_batch_size=70"))
    data = run.data
    assert (data.noise_record.given != data.noise_record.true)[data.val_index].any()
    images = data.source.load("test")
    splits = {
        "test": (data.normalise(images.images), images.labels),
        "val": (data.reading([data.val_index])(0).view(), data.noise_record.given[data.val_index]),
    }
    for split, (pixels, labels) in splits.items():
        for name, network in (("network", run.method.network), ("momentum", run.momentum)):
            with torch.no_grad():
                probabilities = copy.deepcopy(network).eval()(pixels).double().softmax(1)
            logged = {key: run.trainer.callback_metrics[f"{split}/{name}/{key}"].item() for key in ("accuracy", "loss")}
            assert logged == pytest.approx(
                {
                    "accuracy": accuracy_score(labels, probabilities.argmax(1)),
                    "loss": log_loss(labels, probabilities, labels=range(10)),
                },
                rel=1e-5,
            )


def test_testing_logs_only_test_metrics(made: Callable[..., Run]) -> None:
    run = fit(made("method=sln", "trainer.max_epochs=1", "data.noisy_val=25"))
    before = {key: value.item() for key, value in run.trainer.callback_metrics.items() if key.startswith("test/")}
    assert len(before) == 4, "accuracy and loss of the network and of the momentum model"
    (logged,) = run.trainer.test(run.method, run.data, verbose=False)
    assert logged == pytest.approx(before)


def test_a_nan_loss_is_recorded_as_nan(made: Callable[..., Run]) -> None:
    """The mean over the batches with a finite loss would hide it."""

    class OneBadLogit(nn.Module):
        bad = math.nan

        def forward(self, images: Tensor) -> Tensor:
            logits = torch.zeros(len(images), 10)
            logits[0, 0] = self.bad
            self.bad = 0.0  # in the first batch only
            return logits

    run = made("method=ce", "data.eval_batch_size=250")
    run.method.judged["network"] = OneBadLogit()
    (logged,) = run.trainer.test(run.method, run.data, verbose=False)
    assert math.isnan(logged["test/network/loss"])


# Schedules, resuming, failing


class LearningRates(pl.Callback):
    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self.seen.append(trainer.optimizers[0].param_groups[0]["lr"])


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["scheduler=constant"], [1, 1, 1, 1]),
        (["scheduler=multistep", "scheduler.milestones=[1,3]"], [1, 0.1, 0.1, 0.01]),
        (["scheduler=cosine"], [(1 + math.cos(math.pi * epoch / 4)) / 2 for epoch in range(4)]),
    ],
)
def test_a_schedule_steps_once_per_epoch(overrides: list[str], expected: list[float], made: Callable[..., Run]) -> None:
    """Though an epoch is two calls of training_step."""
    rates = LearningRates()
    fit(made("method=ce", "trainer.max_epochs=4", "optimizer.lr=0.01", *overrides, callbacks=(rates,)))
    assert rates.seen == pytest.approx([0.01 * factor for factor in expected for _ in range(2)])


def test_a_resumed_run_of_four_epochs_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    """Correction in the last two, a milestone on each side: all of it taken up from the checkpoint, bit for bit.

    After three epochs there are corrected targets already, against which the next losses are taken.
    """
    options = (
        "method=sln_mo_lc",
        "correction.last_epochs=2",
        "trainer.max_epochs=4",
        "scheduler=multistep",
        "scheduler.milestones=[1,3]",
        "scheduler.gamma=0.5",
    )
    config = compose([*SMALL, *options])
    whole = resuming.made(config, tmp_path / "whole")
    whole.fit()
    assert whole.method.steps == 4 * STEPS
    assert (whole.method.table["weight"] < 1).any()
    resumed = resuming.in_pieces(config, tmp_path / "pieces", (1, None), (2, None))
    resuming.assert_the_same(resumed, whole)
    assert resumed.method.sln.sigma == 0.0  # type: ignore[union-attr]


class Dice(nn.Module):
    """Draws from the global generator when it is trained, as dropout does."""

    def __init__(self) -> None:
        super().__init__()
        self.thrown: list[float] = []

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            self.thrown.append(torch.rand(()).item())
        return images


def test_dropout_differs_between_epochs_and_survives_a_resume(made: Callable[..., Run], tmp_path: Path) -> None:
    def with_dice(*callbacks: pl.Callback) -> tuple[Run, Dice]:
        run, dice = made("method=ce", "trainer.max_epochs=3", callbacks=callbacks), Dice()
        run.method.network.features.insert(0, dice)
        return run, dice

    run, whole = with_dice()
    fit(run)
    assert len(whole.thrown) == len(set(whole.thrown)) == 3 * STEPS
    run, first = with_dice(resuming.StopAfter(2))
    fit(run).trainer.save_checkpoint(tmp_path / "part.ckpt")
    torch.rand(5)  # something else in the process
    run, second = with_dice()
    run.trainer.fit(run.method, run.data, ckpt_path=tmp_path / "part.ckpt", weights_only=True)
    assert first.thrown + second.thrown == whole.thrown


def test_a_non_finite_loss_ends_the_run(made: Callable[..., Run]) -> None:
    """The message names the learning rate that did it, not the one that the schedule has come to since."""
    run = made(
        "method=ce",
        "optimizer.lr=1e30",
        "trainer.max_epochs=3",
        "scheduler=multistep",
        "scheduler.milestones=[1]",
    )
    message = rf"loss is (nan|inf) in epoch 1 \(step {STEPS}, learning rate 1e\+30\)"
    with pytest.raises(SlnlabError, match=message):
        fit(run)
    assert not run_directory(run).checkpoint.exists(), "a diverged state is nothing to go on from"


# On the device


def test_a_step_never_waits_for_the_device() -> None:
    """On the meta device nothing has a value, so whatever asks the host for one raises.

    A generator cannot live there; without one the noise is drawn by the same call.
    """
    table = SampleTable(torch.arange(12) % 10, 10)
    method = bare_method(table).to("meta")
    table.to("meta")
    method.streams = lambda *_: None  # type: ignore[assignment]
    optimizer = SGD(method.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    MomentumAverage(method.network).follow(optimizer)
    index, image = torch.empty(4, dtype=torch.int64, device="meta"), torch.empty(4, 1, 8, 8, device="meta")
    with pytest.raises(RuntimeError):
        bool(image.sum() > 0)
    for corrected in (False, True):
        if corrected:
            table.correct(index, torch.empty(4, device="meta"), torch.empty(4, 10, device="meta"))
        for _ in range(2):
            loss = method.loss(Batch(index, image, shard(len(index))))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            assert loss.device.type == "meta"
            assert loss.shape == ()


def test_a_second_method_on_the_same_data_sees_the_given_labels() -> None:
    """Corrections belong to the method that made them, not to the datamodule."""
    config = compose(
        [
            "data.train_size=100",
            "trainer.max_epochs=1",
            "trainer.accelerator=cpu",
            "method=sln_mo_lc",
            "correction.last_epochs=1",
        ]
    )
    datamodule = assemble.datamodule(config)
    for callbacks in ([MomentumModel(0.5), LabelCorrection(1)], []):
        method = assemble.method(config)
        pl.Trainer(
            max_epochs=1,
            accelerator="cpu",
            callbacks=list(callbacks),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ).fit(method, datamodule)
        corrected = bool((method.table["weight"] < 1).any())
        assert corrected == bool(callbacks)
