"""The tier in one process: every method trains, resumes bit for bit, and composes.

`make test` leaves out nine that differ by their loss alone (`ALIKE`); `make test-methods` has them.
"""

from __future__ import annotations

import copy
import types
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.plugins.precision import Precision
from resuming import Run, assert_the_same, in_pieces, made
from tier import (
    ALIKE,
    BESIDE,
    COLUMNS,
    LOSSES,
    by_loss_alone,
    changed,
    class_of,
    composed,
    has_state,
    in_three_epochs,
    names,
    refused_by,
)
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from slnlab.config import check
from slnlab.errors import ConfigError
from slnlab.inference.weights import trained_networks
from slnlab.training.settling import settle

TINY = (
    "data.train_size=93",
    "data.noisy_val=12",  # 81 to train on: batches of 20, 20, 20 and 21, no last one of a single sample
    "data.test=false",
    "data.batch_size=20",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
    "model._target_=tier.Shallow",
    "model.widths=[8,8,8,8]",
    "seed=5",
)

STANDING = [name for name in names(None) if name not in ALIKE]

WAITING = {"co_teaching_plus": 1}
"""The exception that CONTRIBUTING.md names, and the epoch from which on its steps wait for the device."""


def no_single_sample(network: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Batch norm raises where a network ends in a single pixel, as every ResNet does on digits."""
    assert not network.training or len(inputs[0]) != 1


class Witness(pl.Callback):
    """Records the start of a run, each epoch's first step, and the second's last step, where a phase may end.

    Of a method that is only a loss, the first step and the first one with corrected labels.
    """

    def __init__(self) -> None:
        self.networks: dict[str, Tensor] = {}
        self.table: dict[str, Tensor] = {}
        self.steps: dict[tuple[int, str], tuple[Any, Any, Any]] = {}
        """Method, batch and data before a step, by its epoch and whether it is the first."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.networks = copy.deepcopy(pl_module.networks.state_dict())
        self.table = {name: column.clone() for name, column in pl_module.table.columns.items()}
        step, stateful = pl_module.step, has_state(pl_module)

        def watched(batch: Any) -> None:
            epoch = trainer.current_epoch
            which = "last" if (epoch, "first") in self.steps else "first"
            if stateful if epoch == 1 else which == "first":
                self.steps[epoch, which] = without_values(pl_module, batch)
            step(batch)

        pl_module.step = watched
        for network in pl_module.networks.values():
            network.register_forward_pre_hook(no_single_sample)


class NoStreams:
    """A generator cannot live on the meta device; without one the draws are made by the same calls."""

    seed = 0

    def __call__(self, purpose: str, *position: int) -> None:
        return None


def without_values(method: Any, batch: Any) -> tuple[Any, Any, Any]:
    """Copies of a method, a batch and the data with all tensors on the meta device, where none has a value."""

    def on_meta(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
        if id(tensor) not in memo:
            made = tensor.detach().to("meta").requires_grad_(tensor.requires_grad)
            memo[id(tensor)] = nn.Parameter(made, made.requires_grad) if isinstance(tensor, nn.Parameter) else made
        copied: Tensor = memo[id(tensor)]
        return copied

    def with_what_it_holds(function: Any, memo: dict[int, Any]) -> Any:
        if not function.__closure__:
            return function
        cells = tuple(types.CellType(copy.deepcopy(cell.cell_contents, memo)) for cell in function.__closure__)
        return types.FunctionType(function.__code__, function.__globals__, closure=cells)

    data = method.trainer.datamodule
    memo: dict[int, Any] = {id(each): None for each in (method.trainer, method.step, method._optimizers)}
    memo |= {id(streams): NoStreams() for streams in (method.streams, data._streams)}
    for optimizer in (each for each in vars(method).values() if isinstance(each, Optimizer)):
        # Their counts of steps are on the host.
        memo |= {id(count): count for its in optimizer.state.values() if (count := its.get("step")) is not None}
    with pytest.MonkeyPatch.context() as patch:
        for kind in (Tensor, nn.Parameter):
            patch.setattr(kind, "__deepcopy__", on_meta)
        patch.setitem(copy._deepcopy_dispatch, types.FunctionType, with_what_it_holds)  # type: ignore[attr-defined]
        method, batch, data = copy.deepcopy((method, batch, data), memo)
    del method.step  # the one that is watched
    method._optimizers = [SGD(network.parameters(), lr=0.1, momentum=0.9) for network in method.networks.values()]
    return method, batch, data


@pytest.mark.slow
def test_methods_that_are_alike_differ_by_their_loss_alone() -> None:
    assert {name for name in names(None) if by_loss_alone(name)} == {*LOSSES, *ALIKE}


@pytest.fixture(scope="module")
def alone(method_name: str) -> DictConfig:
    """A run of the method with its momentum model."""
    return in_three_epochs(*TINY, f"method={method_name}", "momentum.enabled=true")


@pytest.fixture(scope="module")
def chosen(alone: DictConfig) -> DictConfig:
    """A run of the method with everything that it composes with."""
    return changed(alone, {key: value for key, value in BESIDE.items() if key not in refused_by(alone)})


@pytest.fixture(scope="module")
def whole(chosen: DictConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Witness]:
    """The run without a stop, and its witness."""
    witness = Witness()
    run = made(chosen, tmp_path_factory.mktemp("whole"), witness)
    run.fit()
    return run, witness


def test_a_method_trains_with_everything_it_composes_with(chosen: DictConfig, whole: tuple[Run, Witness]) -> None:
    run, witness = whole
    assert len(run.rows) == 3
    assert all(torch.isfinite(tensor).all() for tensor in run.state.values())
    for key, tensor in run.method.networks.state_dict().items():
        if key.endswith("classifier.weight"):
            assert not torch.equal(tensor, witness.networks[key])
    if "correction.enabled" not in refused_by(chosen):
        assert (run.method.table["weight"] < 1).any()


def test_three_epochs_cover_every_phase_of_a_method(chosen: DictConfig, whole: tuple[Run, Witness]) -> None:
    """Every column of the method has changed, and a selection takes some samples and leaves others."""
    run, witness = whole
    table, rows = run.method.table, run.data.train_index
    for name in table.columns.keys() - COLUMNS:
        why = f"{type(run.method).__name__}.in_three_epochs has to let the column `{name}` change"
        if table[name].dtype == torch.bool:
            assert 0 < table[name][rows].float().mean() < 1, why
        else:
            assert not torch.allclose(table[name][rows].float(), witness.table[name][rows].float(), atol=1e-6), why


def test_a_stopped_run_resumes_bit_for_bit(chosen: DictConfig, whole: tuple[Run, Witness], tmp_path: Path) -> None:
    """Within the second epoch, without doing a step twice, and at its end; by objects that know nothing.

    A method that is only a loss is stopped once; `ce` stands for its end of an epoch.
    """
    at_its_end = [(1, None)] if has_state(whole[0].method) or chosen.method.name == "ce" else []
    assert_the_same(in_pieces(chosen, tmp_path, (1, 2), *at_its_end), whole[0])


def test_every_judged_network_is_loaded_from_the_checkpoint(chosen: DictConfig, whole: tuple[Run, Witness]) -> None:
    run, _ = whole
    result: Any = SimpleNamespace(identity=settle(chosen).identity, epochs=3)
    loaded = trained_networks(run.directory, chosen, result)
    assert loaded.keys() == run.method.judged.keys()
    for weights, network in run.method.judged.items():
        state = loaded[weights].state_dict()
        assert state.keys() == network.state_dict().keys()
        assert all(torch.equal(state[key], tensor) for key, tensor in network.state_dict().items())


def test_a_step_never_waits_for_the_device(
    method_name: str, whole: tuple[Run, Witness], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the meta device nothing has a value, so whatever asks the host for one raises; and so does what mixes a tensor
    of the device with one that was made on the host."""
    with pytest.raises(RuntimeError):
        bool(torch.empty(1, device="meta") > 0)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which knows no meta device
    run, witness = whole
    assert {epoch for epoch, _ in witness.steps} == ({0, 1, 2} if has_state(run.method) else {0, 2})
    for (epoch, _), (method, batch, data) in witness.steps.items():
        if epoch < WAITING.get(method_name, 3):
            method._trainer = SimpleNamespace(
                datamodule=data, precision_plugin=Precision(), current_epoch=epoch, max_epochs=3
            )
            method.step(batch)


def test_meaningless_combinations_are_refused_with_the_reason(alone: DictConfig) -> None:
    """Before a first stage (`init.from`) has been trained for nothing: YAML and class must say the same."""
    for key, value in BESIDE.items():
        if key in refused_by(alone):
            with pytest.raises(ConfigError) as error:
                check(changed(alone, {key: value}))
            assert f"{key}: {refused_by(alone)[key]}" in str(error.value)


def test_every_method_has_values_for_an_image_folder(method_name: str, own_images: str) -> None:
    """Methods that need the noise rate, unknown here, report it, and so do those that need all images at once."""
    config = composed("data=folder", own_images, f"method={method_name}")
    if getattr(class_of(config), "fits_at_once", False):
        with pytest.raises(ConfigError, match=r"method: .* needs all images at once, .* slnlab embed"):
            check(config)
        return
    if "forget_rate" in config.method:
        with pytest.raises(ConfigError, match=r"method\.forget_rate: noise=real does not state .* or `estimated`"):
            check(config)
        config = changed(config, {"method.forget_rate": "estimated"})
    check(config)
