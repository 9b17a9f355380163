"""Every option of `conf/method/`: it trains, it goes on after a stop as if there had been none, and it composes."""

from __future__ import annotations

import copy
import functools
import os
import signal
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import pytorch_lightning as pl
import torch
import yaml
from by_hand import Bare
from hydra.utils import get_class
from pytorch_lightning.plugins.precision import Precision
from torch import Tensor, nn
from torch.optim import SGD

from slnlab.callbacks import MomentumModel
from slnlab.config import CONF_DIR, check, compose
from slnlab.data import ImageDataModule
from slnlab.data.batches import Batch, Labels
from slnlab.errors import ConfigError
from slnlab.inference.weights import trained_networks
from slnlab.methods import Method, SingleNetwork, dividemix, elr_plus
from slnlab.methods.dividemix import DivideMix
from slnlab.methods.elr_plus import ELRPlus
from slnlab.methods.sam import SharpnessAware
from slnlab.methods.small_loss import SmallLoss
from slnlab.models import SmallCNN
from slnlab.processes.distributed import shard
from slnlab.processes.stopping import Stopped, obeying_signals
from slnlab.record.result import read_metrics
from slnlab.record.run_directory import RunDirectory
from slnlab.schema.options import law
from slnlab.training import assemble
from slnlab.training.settling import settle

METHODS = sorted(path.stem for path in (CONF_DIR / "method").glob("*.yaml"))

YAML: dict[str, dict[str, Any]] = {
    name: yaml.safe_load((CONF_DIR / "method" / f"{name}.yaml").read_text())["method"] for name in METHODS
}

SINGLE = [
    name
    for name in METHODS
    # Those that are an option with other values leave it to that option.
    if issubclass(get_class(YAML[name].get("_target_", "slnlab.methods.SingleNetwork")), SingleNetwork)
]

TINY = (
    "data.train_size=81",  # batches of 20, 20, 20 and 21: no last one of a single sample
    "data.batch_size=20",
    "trainer.max_epochs=3",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
    "model.widths=[4,4,8,8]",
    "seed=5",
)

IN_THREE_EPOCHS = {
    "co_teaching_plus": ["method.init_epochs=1"],
    "dividemix": ["method.warm_up_epochs=1"],
    "cores2": ["method.ramp=[1,2]", "method.sieve_from=2"],
    "forward": ["method.transition=known"],
    "backward": ["method.transition=known"],
    "pes": ["method.early_epochs=1", "method.stage_epochs=2", "method.classifier_epochs=1"],
    "pes_semi": ["method.early_epochs=1", "method.classifier_epochs=1", "method.steps=3"],
    "sln_mo_lc": ["correction.last_epochs=2"],
    "truncated_gce": ["method.first_pruning=2", "method.pruning_every=1", "method.truncation=0.15"],
}
"""What makes a method do in three epochs all that it does."""

COMPOSED = {
    "sln.sigma": ["sln.sigma=0.5"],
    "correction.enabled": ["momentum.enabled=true", "correction.enabled=true", "correction.last_epochs=1"],
    "mixup.alpha": ["mixup.alpha=1"],
    "sam.rho": ["sam.rho=0.05"],
}
"""What may stand beside a method, by the key that it refuses where it has no meaning."""


class Run(NamedTuple):
    method: Method
    data: ImageDataModule
    trainer: pl.Trainer

    @property
    def metrics(self) -> list[dict[str, float]]:
        timings = ("seconds", "images_per_second")
        rows = read_metrics(RunDirectory(Path(self.trainer.default_root_dir)).metrics)
        return [{name: value for name, value in row.items() if name not in timings} for row in rows]


class StopAfter(pl.Callback):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_end(self, trainer: pl.Trainer, *_: object) -> None:
        trainer.should_stop = trainer.current_epoch == self.epoch


def no_single_sample(network: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Batch norm raises where a network ends in a single pixel, as every ResNet does on digits."""
    assert not network.training or len(inputs[0]) != 1


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """A run of the method with the momentum model that was never stopped; each is done once."""

    @functools.cache
    def run(method: str) -> Run:
        whole = maker(tmp_path_factory.mktemp(method))(method, "momentum.enabled=true")
        for network in whole.method.networks.values():
            network.register_forward_pre_hook(no_single_sample)
        start = copy.deepcopy(whole.method.networks.state_dict())
        whole.trainer.fit(whole.method, whole.data)
        assert len(whole.metrics) == 3
        for key, tensor in whole.method.networks.state_dict().items():
            assert torch.isfinite(tensor).all()
            if key.endswith("classifier.weight"):
                assert not torch.equal(tensor, start[key])
        return whole

    return run


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Run]:
    return maker(tmp_path)


def maker(tmp_path: Path) -> Callable[..., Run]:
    def make(
        method: str, *overrides: str, callbacks: tuple[pl.Callback, ...] = (), directory: Path | None = None
    ) -> Run:
        config = compose([*TINY, f"method={method}", *IN_THREE_EPOCHS.get(method, []), *overrides])
        check(config)
        if directory is None:
            directory = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
            directory.mkdir()
        trainer = assemble.trainer(settle(config), RunDirectory(directory), [])[0]
        trainer.callbacks.extend(callbacks)
        return Run(assemble.method(config), assemble.datamodule(config), trainer)

    return make


def state(run: Run) -> dict[str, Tensor]:
    """All that a run has come to."""
    tensors = {f"table.{name}": column for name, column in run.method.table.columns.items()}
    for name, network in run.method.evaluators.items():
        tensors |= {f"{name}.{key}": tensor for key, tensor in network.state_dict().items()}
    for number, optimizer in enumerate(run.trainer.optimizers):
        for parameter, its in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer {number} {parameter} {key}": value for key, value in its.items()}
    return {name: tensor for name, tensor in tensors.items() if isinstance(tensor, Tensor)}


def assert_the_same(mine: Run, its: Run) -> None:
    a, b = state(mine), state(its)
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []
    assert repr(mine.metrics) == repr(its.metrics)  # also where both are NaN


@pytest.mark.parametrize("name", METHODS)
def test_a_stopped_run_goes_on_bit_for_bit(
    name: str, uninterrupted: Callable[[str], Run], made: Callable[..., Run], tmp_path: Path
) -> None:
    """With the momentum model, and a second process's worth of nothing in between."""
    for stop in (0, 1):
        first = made(name, "momentum.enabled=true", callbacks=(StopAfter(stop),))
        first.trainer.fit(first.method, first.data)
        assert len(first.metrics) == stop + 1
        first.trainer.save_checkpoint(tmp_path / "part.ckpt")
        second = made(name, "momentum.enabled=true")
        with torch.no_grad():
            for parameter in second.method.parameters():
                parameter.zero_()  # nothing of it may count
        second.trainer.fit(second.method, second.data, ckpt_path=tmp_path / "part.ckpt", weights_only=True)
        assert_the_same(second, uninterrupted(name))


def stop_within(run: Run, epoch: int, steps: int) -> None:
    """Fit, and be told to stop in a step of this epoch before which so many are done."""
    step = run.method.step

    def told(batch: Any) -> None:
        if (run.trainer.current_epoch, run.method.steps_of_epoch) == (epoch, steps):
            os.kill(os.getpid(), signal.SIGUSR1)
        step(batch)

    run.method.step = told  # type: ignore[method-assign]
    last = RunDirectory(Path(run.trainer.default_root_dir)).checkpoint
    with pytest.raises(Stopped), obeying_signals():
        run.trainer.fit(run.method, run.data, ckpt_path=last if last.exists() else None, weights_only=True)
    assert run.method.steps_of_epoch == steps + 1


@pytest.mark.parametrize("name", METHODS)
def test_a_run_that_is_stopped_within_an_epoch_goes_on_with_the_step_after(
    name: str, uninterrupted: Callable[[str], Run], made: Callable[..., Run], tmp_path: Path
) -> None:
    """Without doing a step twice, and bit for bit."""
    directory = tmp_path / "stopped"
    directory.mkdir()
    for epoch, steps in ((1, 1), (2, 0)):
        run = made(name, "momentum.enabled=true", directory=directory)
        stop_within(run, epoch, steps)
        saved = [torch.load(path, weights_only=True) for path in (directory / "checkpoints").glob("within-*")]
        assert [state["epoch"] for state in saved] == ([epoch] if run.method.saved_within_epoch else [])
    last = made(name, "momentum.enabled=true", directory=directory)
    with torch.no_grad():
        for parameter in last.method.parameters():
            parameter.zero_()  # nothing of it may count
    done: list[tuple[int, int]] = []
    step = last.method.step

    def watched(batch: Any) -> None:
        done.append((last.trainer.current_epoch, last.method.steps_of_epoch))
        step(batch)

    last.method.step = watched  # type: ignore[method-assign]
    last.trainer.fit(last.method, last.data, ckpt_path=RunDirectory(directory).checkpoint, weights_only=True)
    assert done[:1] in ([(2, 1)], [])  # PES has a single step there
    assert_the_same(last, uninterrupted(name))


@pytest.mark.parametrize("name", METHODS)
def test_everybody_who_was_evaluated_is_loaded_from_the_checkpoint(
    name: str, uninterrupted: Callable[[str], Run]
) -> None:
    its = uninterrupted(name)
    config = compose([*TINY, f"method={name}", *IN_THREE_EPOCHS.get(name, []), "momentum.enabled=true"])
    directory = RunDirectory(Path(its.trainer.default_root_dir))
    result: Any = SimpleNamespace(identity=settle(config).identity, epochs=3)
    loaded = trained_networks(directory, config, result)
    assert loaded.keys() == its.method.evaluators.keys()
    for evaluator, network in its.method.evaluators.items():
        state = loaded[evaluator].state_dict()
        assert state.keys() == network.state_dict().keys()
        assert all(torch.equal(state[key], tensor) for key, tensor in network.state_dict().items())


@pytest.mark.parametrize("name", METHODS)
def test_what_it_does_not_refuse_composes(name: str, made: Callable[..., Run]) -> None:
    """All of it at once; and what it refuses is refused with the reason that its YAML gives."""
    refuses = law(compose([f"method={name}"]).method).refuses
    together: list[str] = []
    for key, overrides in COMPOSED.items():
        if key in refuses:
            with pytest.raises(ConfigError) as error:
                made(name, *overrides)
            assert refuses[key] in str(error.value)
        else:
            together += overrides
    run = made(name, *together)
    run.trainer.fit(run.method, run.data)
    assert all(torch.isfinite(tensor).all() for tensor in state(run).values())
    if "correction.enabled" not in refuses:
        assert any(isinstance(callback, MomentumModel) for callback in run.trainer.callbacks)
        assert (run.method.table["weight"] < 1).any()


@pytest.mark.parametrize("switch", ["mixup.alpha=1", "sam.rho=0.05"])
@pytest.mark.parametrize("name", METHODS)
def test_what_the_class_cannot_take_is_refused_with_a_reason_before_anything_is_built(name: str, switch: str) -> None:
    """Before a first stage (`init.from`) has been trained for nothing."""
    config = compose([f"method={name}", switch])
    key = switch.split("=")[0]
    laws = law(config.method)
    reason = laws.refuses.get(key)
    assert reason or key.split(".")[0] in laws.takes
    assert "does not take it" not in str(reason), "the class gives a reason of its own"
    if reason:
        with pytest.raises(ConfigError) as error:
            check(config)
        assert f"{key}: {reason}" in str(error.value)
    else:
        check(config)
        assemble.method(config)


class NoStreams:
    """A generator cannot live on the meta device; without one the draws are made by the same calls."""

    seed = 0

    def __call__(self, purpose: str, *position: int) -> None:
        return None


@pytest.mark.parametrize("name", SINGLE)
def test_a_step_never_waits_for_the_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the meta device nothing has a value, so whatever asks the host for one raises."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which knows no meta device
    bare = Bare((f"method={name}", *IN_THREE_EPOCHS.get(name, [])), given=[c % 10 for c in range(12)], num_classes=10)
    method, table = bare.method, bare.table
    method.networks["network"] = SmallCNN(in_channels=1, num_classes=10, widths=(2, 2, 2, 2))
    method.to("meta")
    table.to("meta")
    method.streams = NoStreams()  # type: ignore[assignment]
    method._optimizers = [SGD(method.network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)]
    if hasattr(method, "second_view"):  # augmentation, made of the data set's images
        monkeypatch.setattr(method, "second_view", lambda batch: torch.empty_like(batch.image))
    index, image = torch.empty(4, dtype=torch.int64, device="meta"), torch.empty(4, 1, 8, 8, device="meta")
    with pytest.raises(RuntimeError):
        bool(image.sum() > 0)
    refused = YAML[name].get("refuses", {})
    for key, switch in {
        "": lambda: None,
        "sln.sigma": lambda: setattr(method.sln, "sigma", 0.5),
        "mixup.alpha": lambda: setattr(method, "mixup", 1.0),
        "sam.rho": lambda: setattr(method, "sam", SharpnessAware(0.1)),
    }.items():
        if key not in refused:
            switch()
            method.step(Batch(index, image, shard(len(index))))
            method.steps += 1


def its_steps(method: Method, batch: Batch) -> list[Any]:
    """What `step` is given, of every kind and for every network."""
    if isinstance(method, ELRPlus):
        return [elr_plus.Turn(number, 7, batch) for number in (0, 1)]
    if isinstance(method, DivideMix):
        images: Any = SimpleNamespace(index=batch.index, view=lambda _: torch.empty_like(batch.image))
        return [batch, *(dividemix.Turn(number, images, images, 8.0) for number in (0, 1))]
    return [batch]


@pytest.mark.parametrize("name", [name for name in METHODS if name not in SINGLE])
def test_nor_does_a_step_of_those_with_a_loop_of_their_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Epoch 6 of each: the ramp of what is forgotten has begun, and co-teaching+ is still co-teaching."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    everything = {"dividemix": ["method.lambda_u=25", "method.warm_up_penalty=1"], "elr_plus": ["data=cifar100"]}
    overrides = [f"method={name}", "model=cnn", "model.widths=[2,2,2,2]", *everything.get(name, [])]
    config = compose(overrides)
    check(config)
    method = assemble.method(config)
    assert not isinstance(method, SingleNetwork)
    data = SimpleNamespace(labels=Labels(torch.arange(12) % 10), num_classes=config.data.num_classes)
    trainer = SimpleNamespace(datamodule=data, precision_plugin=Precision(), current_epoch=5, max_epochs=100)
    method._trainer = trainer  # type: ignore[assignment]
    method.setup("fit")
    method.to("meta")
    method.table.to("meta")
    method.streams = NoStreams()  # type: ignore[assignment]
    method._optimizers = [SGD(network.parameters(), lr=0.1) for network in method.networks.values()]
    if isinstance(method, SmallLoss):
        assert 0 < method.forget_rate < 1
    size = 32 if config.data.channels == 3 else 8
    image = torch.empty(4, config.data.channels, size, size, device="meta")
    batch = Batch(torch.empty(4, dtype=torch.int64, device="meta"), image, shard(4))
    for sigma in (0.0, 0.5):
        if sigma and "sln.sigma" not in YAML[name]["refuses"]:
            method.sln.sigma = sigma  # type: ignore[union-attr]
        for step in its_steps(method, batch):
            method.step(step)
            method.steps += 1
