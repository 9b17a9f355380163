"""What the processes of test_single_network_in_two_processes.py do: one run after the other."""

from __future__ import annotations

from pathlib import Path

import torch

from slnlab import assemble
from slnlab.config import compose
from slnlab.distributed import rank
from slnlab.run_directory import RunDirectory


def fit_each(runs: dict[str, list[str]], folder: Path) -> None:
    """Train them; what each has come to is `<name>.rank<r>.pt`."""
    for name, overrides in runs.items():
        config = compose(overrides)
        directory = folder / name
        directory.mkdir(exist_ok=True)
        method = assemble.method(config)
        trainer, _ = assemble.trainer(config, RunDirectory(directory), [])
        trainer.fit(method, assemble.datamodule(config))
        networks = {key: network.state_dict() for key, network in method.evaluators.items()}
        torch.save({"networks": networks, "table": method.table.state_dict()}, folder / f"{name}.rank{rank()}.pt")
