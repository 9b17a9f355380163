"""The momentum model: an exponential moving average of the weights, by the optimiser's step."""

from __future__ import annotations

import copy
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from slnlab.errors import ConfigError


class MomentumAverage:
    """θ' ← decay·θ' + (1 − decay)·θ after every step of an optimiser, for one network in any training loop.

    Section 4.1 of the paper: no warm-up, no bias correction; θ' starts as a copy of θ. Batch-norm running
    statistics are averaged like weights, integer buffers are left as they are.

    >>> network = nn.Linear(2, 2)
    >>> optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    >>> average = MomentumAverage(network, decay=0.99)
    >>> _ = average.follow(optimizer)        # from now on optimizer.step() updates average.module

    Args:
        network: the network to follow. Make the average after moving it to its device.
        decay: in [0, 1); 0.999 in the paper.

    Raises:
        ConfigError: decay outside [0, 1).
    """

    def __init__(self, network: nn.Module, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ConfigError(f"momentum.decay={decay}: must lie in [0, 1)")
        self.decay = decay
        self.module = copy.deepcopy(network).requires_grad_(False).eval()
        # Lists of the very tensors, made once: one fused call per step instead of a walk over the modules.
        self._averages = _floating(self.module)
        self._sources = _floating(network)

    @torch.no_grad()
    def update(self) -> None:
        """Take one step towards the network as it is now."""
        torch._foreach_lerp_(self._averages, self._sources, 1 - self.decay)

    def follow(self, optimizer: Optimizer) -> RemovableHandle:
        """Update after each of this optimiser's steps, until the handle is removed."""
        return optimizer.register_step_post_hook(lambda *_: self.update())


def _floating(module: nn.Module) -> list[Tensor]:
    tensors = [*module.parameters(), *module.buffers()]
    return [tensor.detach() for tensor in tensors if tensor.is_floating_point()]


class MomentumModel(pl.Callback):
    """The momentum model of each network of a LightningModule, evaluated beside it and saved with the run.

    With one of our methods it follows every network and adds itself to `evaluators` (`momentum` for `network`,
    `momentum_2` for `network_2`). In another LightningModule, name the attribute that holds the network; the
    first optimiser is followed, and `module` is there to evaluate.

    Args:
        decay: in [0, 1); 0.999 in the paper.
        network: attribute of the LightningModule that holds the network; None: its `networks`.

    Raises:
        ConfigError: decay outside [0, 1), or a LightningModule without such an attribute.
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
        networks = self._networks(pl_module)
        for (name, network), optimizer in zip(networks.items(), trainer.optimizers, strict=False):
            average = MomentumAverage(network, self.decay)
            if name in self._saved:
                average.module.load_state_dict(self._saved[name])
            self._handles.append(average.follow(optimizer))
            self.averages[name] = average
            evaluators = getattr(pl_module, "evaluators", None)
            if isinstance(evaluators, dict):
                evaluators[name.replace("network", "momentum")] = average.module

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._stop()

    def state_dict(self) -> dict[str, Any]:
        return {name: average.module.state_dict() for name, average in self.averages.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # Lightning restores callbacks before training starts; the averages are made then.
        self._saved = state_dict

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
