"""Print the cost of an epoch of each method over cross entropy: `python -m benchmarks.methods [OVERRIDE ...]`.

The SLN paper reports co-teaching 1.88 and SLN 1.05. The methods take turns, each with a new training, and the quickest
epoch counts. On a CPU the cost is the CPU time of the process, so that other load matters little. It covers the whole
epoch with its passes over the training set.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from slnlab.config import CONF_DIR, check, compose
from slnlab.record.environment import processor_name
from slnlab.record.run_directory import RunDirectory
from slnlab.text.terminal import print_anywhere
from slnlab.training import assemble, devices
from slnlab.training.settling import settle

EPOCHS = 5
"""Epochs of each training. From the third on every method is in its main phase, see `Method.in_three_epochs`."""


class Clock(pl.Callback):
    """Seconds of each epoch's training. It must be the first callback, so that the work of the others counts."""

    def __init__(self) -> None:
        self.epochs: list[float] = []

    def now(self) -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()

    def on_train_epoch_start(self, *_: Any) -> None:
        self.start = self.now()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.is_last_batch:
            self.epochs.append(self.now() - self.start)


def steady(method: str, overrides: list[str]) -> DictConfig:
    """Return the configuration of a short training that reaches the method's main phase."""
    short = [f"trainer.max_epochs={EPOCHS}", f"correction.last_epochs={EPOCHS - 2}", "trainer.progress=false"]
    config = compose([f"method={method}", *short, *overrides])
    for key, value in get_class(config.method._target_).in_three_epochs.items():
        OmegaConf.update(config, f"method.{key}", value)
    check(config)
    return config


def epoch_seconds(method: str, overrides: list[str]) -> float:
    """Return the seconds of the quickest late epoch of a short training."""
    config = steady(method, overrides)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder, devices.threads(config):
        trainer, _ = assemble.trainer(settle(config), RunDirectory(Path(folder)), [])
        trainer.callbacks.insert(0, clock)
        trainer.fit(assemble.method(config), assemble.datamodule(config))
    return min(clock.epochs[2:])


def main() -> None:
    print_anywhere()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("overrides", nargs="*", help="e.g. data=fashion_mnist data.train_size=6000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    methods = sorted(
        (path.stem for path in (CONF_DIR / "method").glob("*.yaml")), key=lambda name: (name != "ce", name)
    )
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(chosen.rounds):
        for name in methods:
            seconds[name].append(epoch_seconds(name, chosen.overrides))
    best = {name: min(taken) for name, taken in seconds.items()}
    cost = {name: value / best["ce"] for name, value in best.items()}
    print(
        f"{processor_name()}, {' '.join(chosen.overrides) or 'digits'}\n\n| method | s/epoch | × CE |\n|---|---:|---:|"
    )
    for name, value in best.items():
        print(f"| {name} | {value:.3f} | {cost[name]:.2f} |")
    if chosen.json:
        about = {"processor": processor_name(), "overrides": chosen.overrides}
        chosen.json.write_text(
            json.dumps(about | {"seconds": seconds, "cost": cost}, indent=2) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
