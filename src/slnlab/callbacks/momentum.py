"""The momentum model: an exponential moving average of the weights over optimiser steps."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from slnlab.errors import ConfigError


class MomentumAverage:
    """θ' ← decay·θ' + (1 − decay)·θ after every step of an optimiser, for one network in any training loop.

    θ' starts as a copy of θ, without warm-up or bias correction (section 4.1 of the paper). Running statistics of
    batch norm are averaged like weights; integer buffers keep their values.

    >>> network = nn.Linear(2, 2)
    >>> optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    >>> average = MomentumAverage(network, decay=0.99)
    >>> _ = average.follow(optimizer)        # from now on optimizer.step() updates average.module

    Args:
        network: the network to average. Move it to its device and dtype first: a step after a later move raises.
        decay: in [0, 1); 0.999 in the paper.

    Raises:
        ConfigError: decay outside [0, 1), or a weight or statistic in half precision.
    """

    def __init__(self, network: nn.Module, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ConfigError(f"momentum.decay={decay}: must lie in [0, 1)")
        self.decay = decay
        self.module = copy.deepcopy(network).requires_grad_(False).eval()
        self._averages, self._sources = _floating(self.module), _floating(network)
        for held, name in self._averages:
            if held[name].element_size() < 4:
                dtype = str(held[name].dtype).removeprefix("torch.")
                raise ConfigError(
                    f"momentum: the network has weights in {dtype}, which rounds the small steps of an average away; "
                    "keep float32 weights and compute under autocast"
                )

    @torch.no_grad()
    def update(self) -> None:
        """Take one step towards the network as it is now."""
        averages, sources = ([held[name] for held, name in places] for places in (self._averages, self._sources))
        torch._foreach_lerp_(averages, sources, 1 - self.decay)

    def follow(self, optimizer: Optimizer) -> RemovableHandle:
        """Update after each of this optimiser's steps, until the handle is removed."""
        return optimizer.register_step_post_hook(lambda *_: self.update())


def _floating(module: nn.Module) -> list[tuple[dict[str, Any], str]]:
    """Where the module holds its floating tensors, each once: (dictionary, key).

    Moving a module puts new tensors in these places. A traversal of the module in every step would take longer than
    the step itself.
    """
    places = []
    for kind, tensors in (("_parameters", module.named_parameters()), ("_buffers", module.named_buffers())):
        for path, tensor in tensors:
            if tensor.is_floating_point():
                owner, _, name = path.rpartition(".")
                places.append((getattr(module.get_submodule(owner), kind), name))
    return places


class MomentumModel(pl.Callback):
    """The momentum model of each network of a LightningModule, evaluated beside it and saved with the run.

    For our methods it averages every network and adds the averages to `judged` (`momentum` for `network`,
    `momentum_2` for `network_2`). For another LightningModule, name the attribute that holds the network. Its dict
    `judged` (names → modules to evaluate), if there is one, gets the momentum model; `module` is always set.

    Args:
        decay: in [0, 1); 0.999 in the paper.
        network: attribute of the LightningModule that holds the network; None: its `networks`, or `network`.

    Raises:
        ConfigError: decay is outside [0, 1), the LightningModule has no such attribute, no optimiser trains the
            network, or a weight or statistic is in half precision.
    """

    def __init__(self, decay: float = 0.999, network: str | None = None) -> None:
        if not 0 <= decay < 1:
            raise ConfigError(f"momentum.decay={decay}: must lie in [0, 1)")
        self.decay = decay
        self.network = network
        self.averages: dict[str, MomentumAverage] = {}
        self._handles: list[RemovableHandle] = []
        self._saved: dict[str, Any] = {}

    @property
    def module(self) -> nn.Module:
        """The momentum model of the first network."""
        return next(iter(self.averages.values())).module

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._make(pl_module)
        for name, network in self._networks(pl_module).items():
            self._handles.append(self.averages[name].follow(_optimizer_of(name, network, trainer.optimizers)))

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.restore(pl_module)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.on_validation_start(trainer, pl_module)

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.on_validation_start(trainer, pl_module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._stop()

    def state_dict(self) -> dict[str, Any]:
        return {name: average.module.state_dict() for name, average in self.averages.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self._handles:  # during training
            for name, average in self.averages.items():
                average.module.load_state_dict(state_dict[name])
            return
        # Lightning restores callbacks before it moves the networks to their device, and the averages need that device.
        self._saved = state_dict

    def restore(self, pl_module: pl.LightningModule) -> None:
        """Make the momentum models of a loaded checkpoint for evaluation, at most once."""
        if self._saved:  # empty after training
            self._make(pl_module)

    def _make(self, pl_module: pl.LightningModule) -> None:
        for name, network in self._networks(pl_module).items():
            average = MomentumAverage(network, self.decay)
            if name in self._saved:
                average.module.load_state_dict(self._saved[name])
            self.averages[name] = average
            judged = getattr(pl_module, "judged", None)
            if isinstance(judged, dict):
                judged[_name_of_average(name)] = average.module
        self._saved = {}

    def _networks(self, pl_module: pl.LightningModule) -> dict[str, nn.Module]:
        networks = getattr(pl_module, "networks", None)
        if self.network is None and isinstance(networks, nn.ModuleDict):
            return dict(networks.items())
        network = getattr(pl_module, self.network or "network", None)
        if not isinstance(network, nn.Module):
            raise ConfigError(
                f"MomentumModel: {type(pl_module).__name__} has no network in its attribute "
                f"{self.network or 'network'!r}; name it with MomentumModel(network=...)"
            )
        return {"network": network}

    def _stop(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()


def _name_of_average(network: str) -> str:
    """`network_2` → `momentum_2`, `student` → `momentum_student`."""
    number = network.removeprefix("network")
    return f"momentum{number}" if number != network else f"momentum_{network}"


def _optimizer_of(name: str, network: nn.Module, optimizers: Sequence[Optimizer]) -> Optimizer:
    """The first optimiser that trains a parameter of this network: a method's own, before those that it appends."""
    parameters = {id(parameter) for parameter in network.parameters()}
    for optimizer in optimizers:
        if any(id(parameter) in parameters for group in optimizer.param_groups for parameter in group["params"]):
            return optimizer
    raise ConfigError(f"MomentumModel: no optimiser trains {name!r}, so its average would never move")
