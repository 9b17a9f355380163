"""The row on the overhead of a step: `train()` against `bare_loop`, each side in processes of its own.

Epochs of a process agree better than processes with the same code, so a process is the unit. The number of PyTorch's
operations says what a step does, whatever else the machine does. `python -m benchmarks.overhead SIDE STEPS EPOCHS`
measures one process.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.bare_loop import BareLoop
from benchmarks.made import MadeImages
from benchmarks.measure import DEVICE, Figure, Spread, fresh_process, median_interval, synchronise
from benchmarks.our_run import NOTHING, Parts, configuration, epochs
from slnlab.processes.heap import keep_freed_memory
from slnlab.training import assemble

BATCH = 128


def overhead(quick: bool) -> list[Figure]:
    """Compare epochs of 391 steps of SLN in fresh processes that take turns, 1 thread; a value is a process's median.

    Each process trains eight epochs; the first warms up, and the last counts operations.
    """
    steps, epochs, rounds = (16, 3, 1) if quick else (391, 8, 7 if DEVICE == "cpu" else 3)
    sides: dict[str, dict[str, list[float]]] = {"ours": {}, "bare": {}}
    for _ in range(rounds):
        for side, found in sides.items():
            measured = fresh_process("-m", "benchmarks.overhead", side, str(steps), str(epochs))
            for name, values in measured.items():
                scale = 1e3 if name in ("seconds", "cpu", "training") else 1
                found.setdefault(name, []).append(float(np.median(values)) / steps * scale)
    ours, bare = sides.values()
    after = [whole - training for whole, training in zip(ours["seconds"], ours["training"], strict=True)]
    return [
        _extra("per step, ours − bare loop", ours["seconds"], bare["seconds"], "ms", 0.3),
        _extra("the same in CPU time, which other processes disturb less", ours["cpu"], bare["cpu"], "ms"),
        _extra("the same in operations of PyTorch", ours["operations"], bare["operations"], "operations"),
        Figure(
            "of ours, after an epoch's last step (monitor, CSV, checkpoint on the disk)",
            float(np.median(after)),
            "ms",
            interval=median_interval(after),
            details={"training alone, ms per step": Spread.of(ours["training"])},
        ),
    ]


def _extra(what: str, ours: list[float], bare: list[float], unit: str, target: float | None = None) -> Figure:
    difference = [a - b for a, b in zip(ours, bare, strict=True)]
    details = {f"ours, {unit} per step": Spread.of(ours), f"bare loop, {unit} per step": Spread.of(bare)}
    interval = median_interval(difference)
    return Figure(what, float(np.median(difference)), unit, target, interval=interval, details=details)


class Count(TorchDispatchMode):
    """The number of PyTorch's operations inside the block."""

    operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations += 1
        return func(*args, **(kwargs or {}))


class CountLastEpoch(pl.Callback):
    """Counts during the last epoch."""

    def __init__(self) -> None:
        self.count = Count()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch + 1 == trainer.max_epochs:
            self.count.__enter__()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch + 1 == trainer.max_epochs:
            self.count.__exit__(None, None, None)


def measure(side: str, steps: int, count: int) -> dict[str, list[float]]:
    """Return the seconds of one side's epochs without the first and the last, and the operations of the last."""
    size = steps * BATCH
    options = "method=sln", f"trainer.max_epochs={count}", "trainer.threads=1"
    config = configuration(*options, model=NOTHING, train=size, test=0)
    if side == "bare":
        return _bare(config, size, count)
    counting = CountLastEpoch()

    def prepare(parts: Parts) -> None:
        parts.trainer.callbacks.append(counting)  # type: ignore[attr-defined]

    clock = epochs(config, prepare=prepare)
    times = {"seconds": clock.seconds[:-1], "cpu": clock.cpu[:-1], "training": clock.training[:-1]}
    return {**times, "operations": [counting.count.operations]}


def _bare(config: DictConfig, size: int, count: int) -> dict[str, list[float]]:
    keep_freed_memory()  # as a run does
    given = assemble.datamodule(config)
    given.setup()
    seconds, cpu = [], []
    with tempfile.TemporaryDirectory() as directory:
        network, images = assemble.method(config).network, MadeImages(size, 0).load("train")
        loop = BareLoop(network, images, given.labels.given, Path(directory))
        for _ in range(count - 1):
            start, start_cpu = time.perf_counter(), time.process_time()
            loop.epoch()
            synchronise()
            seconds.append(time.perf_counter() - start)
            cpu.append(time.process_time() - start_cpu)
        with Count() as counted:
            loop.epoch()
    return {"seconds": seconds[1:], "cpu": cpu[1:], "operations": [counted.operations]}


if __name__ == "__main__":
    torch.set_num_threads(1)
    print("BENCH", json.dumps(measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))), flush=True)
