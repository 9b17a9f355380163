"""Imports of the processes of test_processes.py: a float64 network, and recording or failing methods."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from slnlab.data import Batch
from slnlab.errors import SlnlabError
from slnlab.methods import SingleNetwork
from slnlab.models.parts import Parts
from slnlab.processes import peers
from slnlab.processes.distributed import rank


class Float64Network(nn.Module):
    """Without batch norm, so that a sample does not see the others of its process."""

    parts = Parts(last_stage=("layers.2",), classifier=("layers.4",))

    def __init__(self, in_channels: int, num_classes: int, widths: list[int]) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, widths[0], 3, padding=1),
            nn.Tanh(),
            nn.GroupNorm(2, widths[0]),
            nn.Flatten(),
            nn.Linear(64 * widths[0], num_classes),
        )
        self.double()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images.double())
        return logits


class OnePixel(nn.Module):
    """Batch norm over a single pixel of digits: a batch of one sample has no variance."""

    def __init__(self, in_channels: int, num_classes: int, widths: list[int]) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, widths[0], 8),
            nn.BatchNorm2d(widths[0]),
            nn.Flatten(),
            nn.Linear(widths[0], num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images)
        return logits


class Recording(SingleNetwork):
    """Writes `rank<r>.pt` beside the run's other files: every step's gradients, and each epoch's whole state."""

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.record: dict[str, list[Any]] = {"gradients": [], "indices": [], "epochs": []}

    def loss(self, batch: Batch) -> Tensor:
        self.record["indices"].append(batch.index.clone())
        return super().loss(batch)

    def take_step(self, network: int | None = None) -> None:
        super().take_step(network)
        gradients = [parameter.grad for parameter in self.network.parameters()]
        self.record["gradients"].append([gradient.clone() for gradient in gradients if gradient is not None])

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        state = {name: network.state_dict() for name, network in self.judged.items()}
        state["table"] = self.table.state_dict()
        metrics = {name: value for name, value in self.trainer.callback_metrics.items() if "/" in name}
        self.record["epochs"].append({"metrics": metrics, **{k: _copied(v) for k, v in state.items()}})
        torch.save(self.record, Path(self.trainer.default_root_dir) / f"rank{rank()}.pt")


class Misbehaving(SingleNetwork):
    """Does what MISBEHAVE says: the rank, the step, `raise` or the name of a signal it sends itself, and perhaps in the
    run of which seed, and only if a file is not there yet. `alone-` before it: the others wait, as in NCCL."""

    def loss(self, batch: Batch) -> Tensor:
        who, when, what, *more = os.environ.get("MISBEHAVE", "-1 0 -").split()
        if what.startswith("alone-"):
            what = what.removeprefix("alone-")
            if self.steps == int(when) and rank() != int(who):
                peers.GRACE = 1.0
                time.sleep(600)
        if (rank(), self.steps) == (int(who), int(when)) and more[:1] in ([], [str(self.seed)]):
            once = Path(more[1]) if more[1:] else None
            if once is not None and once.exists():
                return super().loss(batch)
            if once is not None:
                once.touch()
            if what == "raise":
                raise SlnlabError("something that only this process has noticed")
            os.kill(os.getpid(), getattr(signal, what))
        return super().loss(batch)


def _copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in state.items()}
