"""Rows on whole epochs beside plain Lightning and beside DivideMix's loop, each side in processes of its own.

`python -m benchmarks.contenders SIDE MODEL THREADS SIZE EPOCHS METHOD…` measures one process.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from torch.nn.functional import cross_entropy

from benchmarks.made import MadeImages
from benchmarks.measure import DEVICE, Figure, Spread, Times, compare, fresh_process, synchronise
from benchmarks.our_run import SMALL, WRN, configuration, epochs
from benchmarks.plain_dividemix import LAMBDA_U, AuthorsLoop, seconds_per_step
from benchmarks.plain_lightning import MODULES
from benchmarks.plain_lightning import epochs as their_epochs
from benchmarks.whole_epochs import THREADS
from slnlab.training import assemble

OURS, ALONE = "ours", "forward and backward alone"
PLAIN = {"Lightning, 0 workers": 0, "Lightning, 2 workers": 2}
AUTHORS = {"authors' loop, 0 workers": 0, "authors' loop, 2 workers": 2}
DIVIDEMIX = "method.warm_up_epochs=1", f"method.lambda_u={LAMBDA_U}", "optimizer.lr=0.02"


def plain_lightning_small(quick: bool) -> list[Figure]:
    """Compare epochs of five methods, 2,500 + 500 images, in fresh processes that take turns; a process's median."""
    figures = []
    for threads in (1,) if quick else (1, 2):
        times = _measured(SMALL, threads, 256 if quick else 2_500, 1 if quick else 4, [*MODULES], [OURS, *PLAIN])
        figures += [_against(SMALL, threads, method, times[method], 2.0) for method in MODULES]
    return figures


def plain_lightning_wrn(quick: bool) -> list[Figure]:
    """Compare epochs of SLN with the momentum model, 320 + 64 images, as in `plain_lightning_small`.

    The passes alone are forward and backward of the same training batches, without augmentation and optimiser.
    """
    model, size, rounds = (SMALL, 128, 1) if quick else (WRN, 320, 4)
    times = _measured(model, THREADS, size, rounds, ["sln"], [OURS, *PLAIN, ALONE])["sln"]
    training, alone = times[f"{OURS}, training"], times[ALONE]
    details = {f"{OURS}, training, s": Spread.of(training), f"{ALONE}, s": Spread.of(alone)}
    what = f"{model}, threads: {THREADS}: our training / {ALONE}"
    return [
        _against(model, THREADS, "sln", times, 1.35),
        compare(what, training, alone, target=1.1, details=details),
    ]


def dividemix(quick: bool) -> list[Figure]:
    """Compare the seconds for each optimiser step of an epoch, 2,500 + 500 images, with split and evaluation.

    Processes take turns as in `plain_lightning_small`. The splits, and so the steps of an epoch, differ by chance.
    """
    size, rounds, sides = 512 if quick else 2_500, 1 if quick else 4, [OURS, *AUTHORS]
    times = _measured(SMALL, THREADS, size, rounds, ["dividemix"], sides, epochs=4)["dividemix"]
    return [_against(SMALL, THREADS, "dividemix", times, 1.8)]


def _against(model: str, threads: int, method: str, times: Times, target: float) -> Figure:
    others = [name for name in (*PLAIN, *AUTHORS) if name in times]
    better = min(others, key=lambda name: float(np.median(times[name])))
    return compare(
        f"{method}, {model}, threads: {threads}: {better} / ours",
        times[better],
        times[OURS],
        target=target,
        sense="at least",
        details={f"{name}, s": Spread.of(times[name]) for name in (OURS, *others)},
    )


def _measured(
    model: str, threads: int, size: int, rounds: int, methods: list[str], sides: list[str], epochs: int = 3
) -> dict[str, Times]:
    """Return the medians of each process, by method and side."""
    found: dict[str, Times] = {method: {} for method in methods}
    for _ in range(rounds):
        for side in sides:
            options = side, model, str(threads), str(size), str(epochs), *methods
            for method, times in fresh_process("-m", "benchmarks.contenders", *options).items():
                for what, seconds in times.items():
                    found[method].setdefault(what, []).append(float(np.median(seconds)))
    return found


def measure(side: str, model: str, size: int, count: int, method: str) -> Times:
    """Return the seconds of every epoch but the first; of ours also those of training alone. DivideMix: see there."""
    test = size // 5
    options = [f"method={method}", f"trainer.max_epochs={count}", f"trainer.threads={torch.get_num_threads()}"]
    config = configuration(*options, *(DIVIDEMIX if method == "dividemix" else ()), model=model, train=size, test=test)
    if side == OURS and method == "dividemix":
        return {OURS: _per_step(config)}
    if side == OURS:
        clock = epochs(config)
        return {OURS: clock.seconds, f"{OURS}, training": clock.training}
    network = assemble.method(config).network
    if side == ALONE:
        return {ALONE: _passes(network, size, count)}
    made = MadeImages(size, test)
    images = made.load("train"), made.load("test")
    if side in AUTHORS:
        networks = [
            each.to(memory_format=torch.contiguous_format) for each in assemble.method(config).networks.values()
        ]
        return {side: seconds_per_step(AuthorsLoop(networks, *images, workers=AUTHORS[side]), count)}
    network = network.to(memory_format=torch.contiguous_format)
    return {side: their_epochs(method, network, *images, workers=PLAIN[side], count=count)}


def _per_step(config: DictConfig) -> list[float]:
    """Return the seconds of our epochs after the second, for each of their optimiser steps."""
    steps: list[int] = []

    class Steps(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            steps.append(pl_module.steps)  # type: ignore[arg-type]

    clock = epochs(config, prepare=lambda parts: parts.trainer.callbacks.append(Steps()))  # type: ignore[attr-defined]
    return [seconds / count for seconds, count in zip(clock.seconds[1:], np.diff(steps[1:]), strict=True) if count]


def _passes(network: torch.nn.Module, size: int, count: int) -> list[float]:
    """Return the seconds of forward and backward passes of all batches, but for the first epoch."""
    network.to(DEVICE).train()
    batches = [(torch.randn(len(rows), 3, 32, 32, device=DEVICE), rows % 10) for rows in torch.arange(size).split(128)]
    seconds = []
    for _ in range(count):
        start = time.perf_counter()
        for images, labels in batches:
            network.zero_grad(set_to_none=True)
            cross_entropy(network(images), labels.to(DEVICE)).backward()
        synchronise()
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


if __name__ == "__main__":
    side, model, threads, size, count, *methods = sys.argv[1:]
    torch.set_num_threads(int(threads))
    print("BENCH", json.dumps({method: measure(side, model, int(size), int(count), method) for method in methods}))
