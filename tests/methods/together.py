"""What the processes of the tests in two processes do: one run after the other."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch
from resuming import StopAfter

from slnlab.config import check, compose
from slnlab.processes.distributed import rank
from slnlab.record.run_directory import RunDirectory
from slnlab.training import assemble
from slnlab.training.settling import settle

COMMON = (
    "data.train_size=47",
    "data.noisy_val=12",  # 35 to train on: batches of 16, 16 and 3, of which the second process has none
    "data.batch_size=16",
    "momentum.decay=0.5",
    "trainer.max_epochs=3",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
    # float64 and no batch norm: what is left to differ is the method.
    "model._target_=two_processes.Float64Network",
    "model.widths=[4,4,4,4]",
)

STOPPED = "stopped"
"""The folder of the runs that were stopped after their second epoch."""


def fit_each(runs: Mapping[str, Sequence[str]], folder: Path, again: Collection[str] = ()) -> None:
    """Train them; what each has come to is `<name>.rank<r>.pt`.

    Those named in `again` once more: stopped, and gone on with by another trainer and method.
    """
    for name, overrides in runs.items():
        _fit(name, overrides, folder, stops=[None])
        if name in again:
            _fit(name, overrides, folder / STOPPED, stops=[2, None])


def _fit(name: str, overrides: Sequence[str], folder: Path, stops: Sequence[int | None]) -> None:
    config = compose([*overrides])
    check(config)
    run = RunDirectory(folder / name)
    run.path.mkdir(parents=True, exist_ok=True)
    checkpoint: Path | None = None
    steps = []
    for stop in stops:
        method = assemble.method(config)
        trainer, record = assemble.trainer(settle(config), run, [])
        if stop:
            trainer.callbacks.append(StopAfter(stop))  # type: ignore[attr-defined]
        trainer.fit(method, assemble.datamodule(config), ckpt_path=checkpoint, weights_only=True)
        checkpoint = run.checkpoint
        steps.append(method.steps)
    found = {
        "networks": {key: network.state_dict() for key, network in method.evaluators.items()},
        "table": method.table.state_dict(),
        "rows": [{key: value for key, value in row.items() if "second" not in key} for row in record.rows],
        "steps": steps,
    }
    torch.save(found, folder / f"{name}.rank{rank()}.pt")


def come_to(folder: Path, name: str, rank: int = 0) -> dict[str, torch.Tensor]:
    """All tensors that a run has come to."""
    state = torch.load(folder / f"{name}.rank{rank}.pt", weights_only=True)
    tensors = {f"table.{key}": column for key, column in state["table"].items()}
    for evaluator, network in state["networks"].items():
        tensors |= {f"{evaluator}.{key}": tensor for key, tensor in network.items()}
    return tensors


def assert_same_bits(together: Path, name: str) -> None:
    """Of the run that was not stopped and the one that was, in each of two processes."""
    for number in (0, 1):
        steps = torch.load(together / STOPPED / f"{name}.rank{number}.pt", weights_only=True)["steps"]
        assert 0 < steps[0] < steps[1], "it was stopped"
        whole, resumed = (come_to(folder, name, number) for folder in (together, together / STOPPED))
        assert resumed.keys() == whole.keys()
        for key, tensor in whole.items():
            assert torch.equal(resumed[key], tensor), f"{key} of {number}"
