"""The momentum model by hand: in a plain loop, in a foreign LightningModule, and across a checkpoint."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, TensorDataset

from slnlab.callbacks import MomentumAverage, MomentumModel
from slnlab.errors import ConfigError

MakeTrainer = Callable[..., pl.Trainer]


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))


def data(samples: int = 12) -> TensorDataset:
    generator = torch.Generator().manual_seed(1)
    return TensorDataset(torch.randn(samples, 4, generator=generator), torch.arange(samples) % 3)


def descend(module: nn.Module, optimizer: torch.optim.Optimizer, image: Tensor, label: Tensor) -> None:
    optimizer.zero_grad()
    cross_entropy(module(image), label).backward()
    optimizer.step()


def same(a: nn.Module, b: nn.Module | dict[str, Tensor]) -> bool:
    """Parameters and buffers are equal, bit for bit."""
    there = b.state_dict() if isinstance(b, nn.Module) else b
    here = a.state_dict()
    return here.keys() == there.keys() and all(torch.equal(here[key], there[key]) for key in here)


# The recursion


def one_weight(value: float) -> tuple[nn.Linear, SGD]:
    linear = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(linear.weight, value)
    return linear, SGD(linear.parameters(), lr=1.0)


def move_to(linear: nn.Linear, optimizer: SGD, value: float) -> None:
    """A step that ends at this weight."""
    linear.weight.grad = linear.weight.detach() - value
    optimizer.step()


def test_three_steps_of_the_average_by_hand() -> None:
    linear, optimizer = one_weight(1.0)
    average = MomentumAverage(linear, decay=0.75)
    average.follow(optimizer)
    assert average.module.weight.item() == 1.0, "it starts as a copy"
    expected = [0.75 * 1 + 0.25 * 3, 0.75 * 1.5 + 0.25 * -1, 0.75 * 0.875 + 0.25 * 7]
    for weight, value in zip((3.0, -1.0, 7.0), expected, strict=True):
        move_to(linear, optimizer, weight)
        assert average.module.weight.item() == value, "exact in binary"
    assert expected == [1.5, 0.875, 2.40625]


def test_the_average_has_no_warm_up_and_no_bias_correction() -> None:
    """A warm-up would let the first step move it all the way, a bias correction would divide by 1 − decay^t."""
    linear, optimizer = one_weight(0.0)
    average = MomentumAverage(linear, decay=0.999)
    average.follow(optimizer)
    for step in (1, 2, 3):
        move_to(linear, optimizer, 1.0)
        assert average.module.weight.item() == pytest.approx(1 - 0.999**step, rel=1e-12)


def test_the_average_equals_torchs_averaged_model() -> None:
    """AveragedModel copies at its first update; made before training, it then follows the same recursion."""
    decay, module = 0.9, network().double()
    optimizer = SGD(module.parameters(), lr=0.5, momentum=0.9)
    ours = MomentumAverage(module, decay)
    ours.follow(optimizer)
    torchs = AveragedModel(module, avg_fn=lambda average, new, _: decay * average + (1 - decay) * new, use_buffers=True)
    torchs.update_parameters(module)
    for image, label in DataLoader(data(40), batch_size=5):
        descend(module, optimizer, image.double(), label)
        torchs.update_parameters(module)
    for mine, reference in zip(
        (*ours.module.parameters(), *ours.module.buffers()),
        (*torchs.module.parameters(), *torchs.module.buffers()),
        strict=True,
    ):
        if mine.is_floating_point():
            torch.testing.assert_close(mine, reference, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(ours.module[0].weight, module[0].weight), "8 steps at .9 have not arrived"


def test_batch_norm_statistics_are_averaged_but_not_its_counter() -> None:
    """Batch (1, 3): mean 2, unbiased variance 2; with BN momentum ½ the statistics go (0, 1), (1, 1½), (1½, 1¾)."""
    norm = nn.BatchNorm1d(1, momentum=0.5)
    norm.num_batches_tracked.fill_(7)  # trained before
    optimizer = SGD(norm.parameters(), lr=0.0)
    average = MomentumAverage(norm, decay=0.5)
    average.follow(optimizer)
    for mean, variance in ((0.5, 1.25), (1.0, 1.5)):
        norm(torch.tensor([[1.0], [3.0]]))
        optimizer.step()
        assert average.module.running_mean.item() == mean
        assert average.module.running_var.item() == variance
    assert norm.num_batches_tracked.item() == 9
    assert average.module.num_batches_tracked.item() == 7, "integer buffers keep their first value"


def test_decay_0_copies_the_network() -> None:
    module = network()
    optimizer = SGD(module.parameters(), lr=0.3, momentum=0.9)
    average = MomentumAverage(module, decay=0.0)
    average.follow(optimizer)
    for image, label in DataLoader(data(), batch_size=4):
        descend(module, optimizer, image, label)
        for mine, its in zip(average.module.parameters(), module.parameters(), strict=True):
            assert torch.equal(mine, its)
        assert torch.equal(average.module[1].running_var, module[1].running_var)


@pytest.mark.parametrize("decay", [-0.1, 1.0, 1.5, float("nan")])
def test_a_decay_outside_its_range_is_refused(decay: float) -> None:
    with pytest.raises(ConfigError, match=r"momentum\.decay"):
        MomentumAverage(nn.Linear(1, 1), decay)
    with pytest.raises(ConfigError, match=r"momentum\.decay"):
        MomentumModel(decay)


# In a plain loop


def test_only_optimiser_steps_move_the_average() -> None:
    """Four backward passes to a step: one update. A step that the gradient scaler leaves out is none."""
    linear, optimizer = one_weight(0.0)
    average = MomentumAverage(linear, decay=0.5)
    average.follow(optimizer)
    optimizer.zero_grad()
    for _ in range(4):
        (-linear.weight / 4).sum().backward()
    assert average.module.weight.item() == 0.0
    optimizer.step()
    assert (linear.weight.item(), average.module.weight.item()) == (1.0, 0.5)

    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(linear.weight.sum() * float("inf")).backward()
    scaler.step(optimizer)
    assert average.module.weight.item() == 0.5


def test_removing_the_handle_stops_the_average() -> None:
    linear, optimizer = one_weight(0.0)
    average = MomentumAverage(linear, decay=0.5)
    handle = average.follow(optimizer)
    move_to(linear, optimizer, 2.0)
    handle.remove()
    move_to(linear, optimizer, 100.0)
    assert average.module.weight.item() == 1.0


def test_frozen_parameters_stay_and_the_average_needs_no_gradient() -> None:
    module = network()
    module[0].requires_grad_(False)
    optimizer = SGD([p for p in module.parameters() if p.requires_grad], lr=0.5)
    average = MomentumAverage(module, decay=0.9)
    average.follow(optimizer)
    before = copy.deepcopy(module[0])
    for image, label in DataLoader(data(), batch_size=4):
        descend(module, optimizer, image, label)
    assert same(average.module[0], before)
    assert not torch.equal(average.module[3].weight, module[3].weight)
    assert not any(parameter.requires_grad for parameter in average.module.parameters())
    assert not average.module.training, "ready to be evaluated"
    assert module.training
    assert module[3].weight.requires_grad


def test_a_step_after_moving_the_network_raises() -> None:
    """Moving a module swaps the memory behind its parameters; an average of the old memory would stand still."""
    module = network()
    average = MomentumAverage(module, decay=0.9)
    optimizer = SGD(module.double().parameters(), lr=0.1)
    average.follow(optimizer)
    image, label = next(iter(DataLoader(data(), batch_size=4)))
    with pytest.raises(RuntimeError, match="dtype"):
        descend(module, optimizer, image.double(), label)


def test_a_network_moved_and_moved_back_is_averaged_with_its_statistics() -> None:
    """Moving replaces the buffers of a module, and the average must not follow those of before."""
    norm = nn.BatchNorm1d(1, momentum=0.5)
    average = MomentumAverage(norm, decay=0.5)
    norm.double().float()
    norm(torch.tensor([[1.0], [3.0]]))
    average.update()
    assert (average.module.running_mean.item(), average.module.running_var.item()) == (0.5, 1.25)


def test_a_shared_weight_is_averaged_once() -> None:
    first, second = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    second.weight = first.weight
    nn.init.zeros_(first.weight)
    average = MomentumAverage(nn.Sequential(first, second), decay=0.5)
    nn.init.ones_(first.weight)
    average.update()
    assert average.module[1].weight.item() == 0.5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_in_half_precision_are_refused(dtype: torch.dtype) -> None:
    """1 + 0.001·(0 − 1) is 1 in bfloat16: the average would never move."""
    with pytest.raises(ConfigError, match="float32 weights and compute under autocast"):
        MomentumAverage(network().to(dtype))
    MomentumAverage(network().double())


# In a LightningModule


class Somebody(pl.LightningModule):
    """Automatic optimisation, one network, judged of its own."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.net = network(seed)
        self.judged: dict[str, nn.Module] = {"network": self.net}

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        image, label = batch
        return cross_entropy(self.net(image), label)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        image, label = batch
        for name, evaluated in self.judged.items():
            self.log(name, cross_entropy(evaluated(image), label))

    def configure_optimizers(self) -> SGD:
        return SGD(self.net.parameters(), lr=0.3, momentum=0.9)


def loader(batch_size: int = 4) -> DataLoader[Any]:
    return DataLoader(data(), batch_size=batch_size)


def test_the_callback_in_a_foreign_module_equals_the_plain_loop(quiet_trainer: MakeTrainer) -> None:
    """Twelve samples in batches of two, a step every third batch: two steps to an epoch."""
    module, callback = Somebody(), MomentumModel(0.9, network="net")
    plain = copy.deepcopy(module.net)
    quiet_trainer(callback, max_epochs=3, accumulate_grad_batches=3).fit(module, loader(batch_size=2))

    optimizer = SGD(plain.parameters(), lr=0.3, momentum=0.9)
    expected = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    for _ in range(3):
        for position, (image, label) in enumerate(loader(batch_size=2)):
            (cross_entropy(plain(image), label) / 3).backward()
            if position % 3 == 2:
                optimizer.step()
                optimizer.zero_grad()
                for name, tensor in plain.state_dict().items():
                    if tensor.is_floating_point():
                        expected[name] = 0.9 * expected[name] + 0.1 * tensor
    for name, tensor in callback.module.state_dict().items():
        torch.testing.assert_close(tensor, expected[name])
    assert same(module.net, plain)


def test_the_callback_finds_the_network_by_its_attribute(quiet_trainer: MakeTrainer) -> None:
    with pytest.raises(ConfigError, match=r"Somebody has no network in its attribute 'network'; name it"):
        quiet_trainer(MomentumModel(), max_epochs=1).fit(Somebody(), loader())
    with pytest.raises(ConfigError, match="'backbone'"):
        quiet_trainer(MomentumModel(network="backbone"), max_epochs=1).fit(Somebody(), loader())


def test_the_momentum_model_is_no_submodule(quiet_trainer: MakeTrainer) -> None:
    """Neither saved with its weights nor given to its optimisers, though it is evaluated beside the network."""
    module, callback = Somebody(), MomentumModel(0.9, network="net")
    keys, parameters = list(module.state_dict()), [id(p) for p in module.parameters()]
    quiet_trainer(callback, max_epochs=1).fit(module, loader())
    assert list(module.state_dict()) == keys
    assert [id(p) for p in module.parameters()] == parameters
    assert set(module.judged) == {"network", "momentum"}
    assert module.judged["momentum"] is callback.module


def test_one_run_evaluates_network_and_momentum_model(quiet_trainer: MakeTrainer) -> None:
    module, callback = Somebody(), MomentumModel(0.9, network="net")
    trainer = quiet_trainer(callback, max_epochs=2)
    trainer.fit(module, loader())
    (logged,) = trainer.test(module, DataLoader(data(), batch_size=12), verbose=False)
    images, labels = data().tensors
    by_hand = {
        name: cross_entropy(copy.deepcopy(evaluated).eval()(images), labels).item()
        for name, evaluated in (("network", module.net), ("momentum", callback.module))
    }
    assert logged == pytest.approx(by_hand)
    assert logged["network"] != pytest.approx(logged["momentum"])


def test_the_average_stops_after_fit(quiet_trainer: MakeTrainer) -> None:
    module, callback = Somebody(), MomentumModel(0.9, network="net")
    trainer = quiet_trainer(callback, max_epochs=1)
    trainer.fit(module, loader())
    before = copy.deepcopy(callback.module)
    descend(module.net, trainer.optimizers[0], *data().tensors)
    assert same(callback.module, before)


def test_the_average_stops_after_a_crash(quiet_trainer: MakeTrainer) -> None:
    class Crash(pl.Callback):
        def on_train_epoch_end(self, *_: Any) -> None:
            raise RuntimeError("power cut")

    module, callback = Somebody(), MomentumModel(0.9, network="net")
    trainer = quiet_trainer(callback, Crash(), max_epochs=1)
    with pytest.raises(RuntimeError, match="power cut"):
        trainer.fit(module, loader())
    before = copy.deepcopy(callback.module)
    descend(module.net, trainer.optimizers[0], *data().tensors)
    assert same(callback.module, before)


def test_a_checkpoint_continues_the_average_exactly(quiet_trainer: MakeTrainer, tmp_path: Path) -> None:
    whole, whole_callback = Somebody(), MomentumModel(0.9, network="net")
    quiet_trainer(whole_callback, max_epochs=4).fit(whole, loader())

    first, first_callback = Somebody(), MomentumModel(0.9, network="net")
    trainer = quiet_trainer(first_callback, max_epochs=2)
    trainer.fit(first, loader())
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    halfway = copy.deepcopy(first_callback.module)

    second, second_callback = Somebody(seed=9), MomentumModel(0.9, network="net")
    started: list[nn.Module] = []

    class Look(pl.Callback):
        def on_train_start(self, *_: Any) -> None:
            started.append(copy.deepcopy(second_callback.module))

    quiet_trainer(second_callback, Look(), max_epochs=4).fit(
        second, loader(), ckpt_path=tmp_path / "half.ckpt", weights_only=True
    )
    assert same(started[0], halfway)
    assert not same(started[0], first.net), "or the test could not tell it from a fresh copy"
    assert same(second_callback.module, whole_callback.module)
    assert same(second.net, whole.net)


def test_a_checkpoint_is_restored_once(quiet_trainer: MakeTrainer, tmp_path: Path) -> None:
    """Trained again without a checkpoint, it starts from the network as it is, not from the checkpoint of before."""
    module, callback = Somebody(), MomentumModel(0.9, network="net")
    trainer = quiet_trainer(callback, max_epochs=1)
    trainer.fit(module, loader())
    trainer.save_checkpoint(tmp_path / "early.ckpt")
    callback = MomentumModel(0.9, network="net")
    quiet_trainer(callback, max_epochs=3).fit(module, loader(), ckpt_path=tmp_path / "early.ckpt", weights_only=True)

    starts: list[bool] = []

    class Look(pl.Callback):
        def on_train_start(self, *_: Any) -> None:
            starts.append(same(callback.module, module.net))

    quiet_trainer(callback, Look(), max_epochs=1).fit(module, loader())
    assert starts == [True]


@pytest.mark.parametrize("fresh", [False, True])
def test_testing_a_checkpoint_tests_its_momentum_model(fresh: bool, quiet_trainer: MakeTrainer, tmp_path: Path) -> None:
    """In the process that trained on beyond it, and in a new one."""
    module, callback = Somebody(), MomentumModel(0.9, network="net")
    trainer = quiet_trainer(callback, max_epochs=1)
    trainer.fit(module, loader())
    trainer.save_checkpoint(tmp_path / "early.ckpt")
    images, labels = data().tensors
    expected = {
        name: cross_entropy(copy.deepcopy(evaluated).eval()(images), labels).item()
        for name, evaluated in (("network", module.net), ("momentum", callback.module))
    }
    if fresh:
        module, callback = Somebody(seed=9), MomentumModel(0.9, network="net")
        trainer = quiet_trainer(callback)
    else:
        trainer.fit_loop.max_epochs = 5
        trainer.fit(module, loader())
        assert not same(module.net, torch.load(tmp_path / "early.ckpt", weights_only=True)["state_dict"])
    given = {"ckpt_path": tmp_path / "early.ckpt", "weights_only": True}
    (logged,) = trainer.test(module, DataLoader(data(), batch_size=12), verbose=False, **given)
    assert logged == pytest.approx(expected)
    if fresh:
        module, callback = Somebody(seed=9), MomentumModel(0.9, network="net")
        trainer = quiet_trainer(callback)
    module.predict_step = lambda batch, batch_idx: module.judged["momentum"](batch[0])  # type: ignore[method-assign]
    (predicted,) = trainer.predict(module, DataLoader(data(), batch_size=12), **given)
    assert cross_entropy(predicted, labels).item() == pytest.approx(expected["momentum"])


class Two(pl.LightningModule):
    """Two networks; the second takes two steps to the first one's one."""

    def __init__(self, names: tuple[str, str] = ("network", "network_2"), optimizers: str = "two") -> None:
        super().__init__()
        self.automatic_optimization = False
        self.networks = nn.ModuleDict({name: network(seed) for seed, name in enumerate(names)})
        self.judged: dict[str, nn.Module] = dict(self.networks.items())
        self.which = optimizers

    def configure_optimizers(self) -> Any:
        first, second = (SGD(module.parameters(), lr=0.3) for module in self.networks.values())
        return {
            "two": [first, second],
            "reversed": [second, first],
            "shared": [SGD(self.networks.parameters(), lr=0.3)],
            "missing": [first],
        }[self.which]

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizers = self.optimizers(use_pl_optimizer=False)
        first, second = self.networks.values()
        if self.which == "shared":
            optimizers.zero_grad()
            sum(cross_entropy(module(batch[0]), batch[1]) for module in (first, second)).backward()
            optimizers.step()
            return
        if self.which == "reversed":
            optimizers = optimizers[::-1]
        descend(first, optimizers[0], *batch)
        descend(second, optimizers[1], *batch)
        descend(second, optimizers[1], *batch)


def averaged(module: nn.Module, steps: int) -> Iterator[Tensor]:
    """The momentum average (.9) of the parameters over so many steps on every batch."""
    optimizer = SGD(module.parameters(), lr=0.3)
    averages = [parameter.detach().clone() for parameter in module.parameters()]
    for image, label in loader():
        for _ in range(steps):
            descend(module, optimizer, image, label)
            averages = [0.9 * a + 0.1 * p.detach() for a, p in zip(averages, module.parameters(), strict=True)]
    yield from averages


@pytest.mark.parametrize("optimizers", ["two", "reversed", "shared"])
def test_each_average_follows_the_optimiser_of_its_network(optimizers: str, quiet_trainer: MakeTrainer) -> None:
    module, callback = Two(optimizers=optimizers), MomentumModel(0.9)
    expected = [
        list(averaged(copy.deepcopy(module.networks["network"]), 1)),
        list(averaged(copy.deepcopy(module.networks["network_2"]), 1 if optimizers == "shared" else 2)),
    ]
    quiet_trainer(callback, max_epochs=1).fit(module, loader())
    for name, values in zip(("momentum", "momentum_2"), expected, strict=True):
        for parameter, value in zip(module.judged[name].parameters(), values, strict=True):
            torch.testing.assert_close(parameter.detach(), value)


def test_a_network_without_an_optimiser_is_refused(quiet_trainer: MakeTrainer) -> None:
    with pytest.raises(ConfigError, match="'network_2'"):
        quiet_trainer(MomentumModel(), max_epochs=1).fit(Two(optimizers="missing"), loader())


def test_the_momentum_model_replaces_no_judged_network(quiet_trainer: MakeTrainer) -> None:
    module = Two(names=("student", "network_2"))
    student = module.networks["student"]
    quiet_trainer(MomentumModel(), max_epochs=1).fit(module, loader())
    assert set(module.judged) == {"student", "network_2", "momentum_student", "momentum_2"}
    assert module.judged["student"] is student
