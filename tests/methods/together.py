"""The work of each process in the tests of two processes: one run after the other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from omegaconf import DictConfig
from resuming import StopAfter, made
from tier import has_state

from slnlab import config
from slnlab.processes.distributed import rank


def fit_each(runs: Mapping[str, DictConfig], folder: Path, stop_after: int | None, searched: list[str]) -> None:
    """Train them; what each has come to is `<name>.rank<r>.pt`.

    Args:
        runs: their configurations, by name.
        folder: for their directories.
        stop_after: epochs after which a method with state of its own is stopped, and gone on with by objects that
            know nothing; None: never.
        searched: folders of options.
    """
    config.extra_config_dirs[:] = searched
    for name, chosen in runs.items():
        run = made(chosen, folder / name, *([StopAfter(stop_after, has_state)] if stop_after else []))
        run.fit()
        stopped = len(run.record.epochs) < chosen.trainer.max_epochs
        if stopped:
            run = made(chosen, folder / name)
            run.fit()
        found = {
            "networks": {key: network.state_dict() for key, network in run.method.judged.items()},
            "table": run.method.table.state_dict(),
            "rows": [{key: value for key, value in row.items() if "second" not in key} for row in run.record.epochs],
            "steps": run.method.steps,
            "stopped": stopped,
        }
        torch.save(found, folder / f"{name}.rank{rank()}.pt")


def come_to(folder: Path, name: str, rank: int = 0) -> dict[str, torch.Tensor]:
    """All tensors that a run has come to."""
    state = torch.load(folder / f"{name}.rank{rank}.pt", weights_only=True)
    tensors = {f"table.{key}": column for key, column in state["table"].items()}
    for weights, network in state["networks"].items():
        tensors |= {f"{weights}.{key}": tensor for key, tensor in network.items()}
    return tensors
