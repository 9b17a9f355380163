"""Print the cost of a run of each method over cross entropy: `python -m benchmarks.methods [OVERRIDE ...]`.

The SLN paper reports co-teaching 1.88 and SLN 1.05. Each method trains between two trainings of cross entropy, and the
ratio to their mean counts: other load and a changing clock act on all three. The row of `ce` itself shows the noise. On
a CPU the cost is CPU time. It covers whole epochs of the main phase, with passes over the training set.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

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

EPOCHS = 7
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


class Phase(NamedTuple):
    """A part of a method's run whose epochs cost the same."""

    method: str
    corrects: bool
    share: float
    """Of the run's epochs, in (0, 1]."""


def phases(method: str, overrides: list[str]) -> list[Phase]:
    """The epochs without and with label correction."""
    config = compose([f"method={method}", *overrides])
    share = config.correction.last_epochs / config.trainer.max_epochs if config.correction.enabled else 0.0
    made = [Phase(method, False, 1 - share), Phase(method, True, share)]
    return [phase for phase in made if phase.share]


def steady(phase: Phase, overrides: list[str]) -> DictConfig:
    """The configuration of a short training that reaches the method's main phase."""
    short = [f"trainer.max_epochs={EPOCHS}", f"correction.last_epochs={EPOCHS - 2}", "trainer.progress=false"]
    corrects = f"correction.enabled={phase.corrects}".lower()
    config = compose([f"method={phase.method}", *short, *overrides, corrects])
    for key, value in get_class(config.method._target_).in_three_epochs.items():
        OmegaConf.update(config, f"method.{key}", value)
    check(config)
    return config


def epoch_seconds(phase: Phase, overrides: list[str]) -> float:
    """The median seconds of the late epochs of a short training."""
    config = steady(phase, overrides)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder, devices.threads(config):
        trainer, _ = assemble.trainer(settle(config), RunDirectory(Path(folder)), [])
        trainer.callbacks.insert(0, clock)
        trainer.fit(assemble.method(config), assemble.datamodule(config))
    return median(clock.epochs[2:])


def one_round(methods: list[str], overrides: list[str]) -> dict[str, float]:
    """The cost of a run of each method over that of cross entropy beside it."""
    every = [phase for method in methods for phase in phases(method, overrides)]
    baseline, own = [], []
    for phase in every:
        baseline.append(epoch_seconds(Phase("ce", False, 1.0), overrides))
        own.append(epoch_seconds(phase, overrides))
    baseline.append(epoch_seconds(Phase("ce", False, 1.0), overrides))
    costs = dict.fromkeys(methods, 0.0)
    for phase, seconds, beside in zip(every, own, pairwise(baseline), strict=True):
        costs[phase.method] += phase.share * seconds / fmean(beside)
    return costs


def main() -> None:
    print_anywhere()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("overrides", nargs="*", help="e.g. data=fashion_mnist data.train_size=6000")
    parser.add_argument("--methods", default="", help="names with commas; default: all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the costs there; with --methods, beside those of the others")
    chosen = parser.parse_args()
    every = sorted((path.stem for path in (CONF_DIR / "method").glob("*.yaml")), key=lambda name: (name != "ce", name))
    methods = chosen.methods.split(",") if chosen.methods else every
    rounds = [one_round(methods, chosen.overrides) for _ in range(chosen.rounds)]
    ratios = {name: [found[name] for found in rounds] for name in methods}
    print(f"{processor_name()}, {' '.join(chosen.overrides) or 'digits'}, {chosen.rounds} rounds\n")
    print("| method | × CE | least and most |\n|---|---:|---:|")
    for name, found in ratios.items():
        print(f"| {name} | {median(found):.2f} | {min(found):.2f}, {max(found):.2f} |")
    if chosen.json:
        if chosen.methods and chosen.json.exists():  # each cost is a ratio to the cross entropy beside it
            ratios = json.loads(chosen.json.read_text(encoding="utf-8"))["rounds"] | ratios
        about = {"processor": processor_name(), "overrides": chosen.overrides, "rounds": ratios}
        cost = {name: median(found) for name, found in ratios.items()}
        chosen.json.write_text(json.dumps(about | {"cost": cost}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
