"""Rows on whole epochs: beside the usual loop, with label correction, and with growing data."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import numpy as np
import pytorch_lightning as pl
import torch

from benchmarks.made import MadeImages
from benchmarks.measure import DEVICE, Figure, Spread, Times, compare, in_turns, median_interval, synchronise, threads
from benchmarks.our_run import MIDDLE, NOTHING, SMALL, WRN, Parts, configuration, epochs, run
from benchmarks.usual_loop import UsualLoop
from slnlab.callbacks import LabelCorrection, MomentumAverage
from slnlab.callbacks.evaluation_schedule import EvaluationSchedule, is_due
from slnlab.training import assemble

THREADS = int(os.environ.get("BENCH_THREADS", "2"))
"""Threads of both sides. Set it to 1 on a busy machine, where two threads would wait for each other."""


def usual_loop_small(quick: bool) -> list[Figure]:
    """Compare epochs with training, both evaluations, our record and checkpoint; 5 training images per test image."""
    return [_against_usual(SMALL, 256 if quick else 5_000, 1 if quick else 5, 3.0)]


def usual_loop_middle(quick: bool) -> list[Figure]:
    """Compare as in `usual_loop_small`."""
    return [_against_usual(MIDDLE, 256 if quick else 2_500, 1 if quick else 5, 1.7)]


def usual_loop_wrn(quick: bool) -> list[Figure]:
    """Compare as in `usual_loop_small`."""
    return [_against_usual(WRN, 128 if quick else 320, 1 if quick else 5, 1.1)]


def _against_usual(model: str, size: int, rounds: int, target: float) -> Figure:
    test = size // 5
    config = configuration("method=sln", f"trainer.max_epochs={rounds + 1}", model=model, train=size, test=test)
    images = MadeImages(size, test)
    loops = {}
    for workers in (0, 2):
        network = assemble.method(config).network.to(memory_format=torch.contiguous_format)
        loops[f"usual, {workers} workers"] = UsualLoop(
            network, images.load("train"), images.load("test"), workers=workers
        )
    times: Times = {name: [] for name in loops}

    def their_turn(epoch: int) -> None:
        for name, loop in loops.items():
            start = time.perf_counter()
            loop.epoch()
            synchronise()
            if epoch:
                times[name].append(time.perf_counter() - start)

    with threads(THREADS):
        ours = epochs(config, between=their_turn).seconds
    better = min(times, key=lambda name: float(np.median(times[name])))
    return compare(
        f"{model}, threads: {THREADS}: {better} / ours",
        times[better],
        ours,
        target=target,
        sense="at least",
        details={f"{name}, s": Spread.of(values) for name, values in {"ours": ours, **times}.items()},
    )


def label_correction(quick: bool) -> list[Figure]:
    """Compare epochs with and without label correction, in turns in one run of WRN-28-2, with evaluation."""
    size, model = (256, SMALL) if quick else (640, WRN)
    pairs = 1 if quick else 4

    class EverySecondEpoch(pl.Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            (correction,) = (c for c in trainer.callbacks if isinstance(c, LabelCorrection))  # type: ignore[attr-defined]
            correcting = trainer.current_epoch % 2 == 0
            correction.last_epochs = 10_000 if correcting else 0
            if not correcting:
                pl_module.sln.sigma = 1.0  # type: ignore[union-attr]

    def prepare(parts: Parts) -> None:
        parts.trainer.callbacks.insert(0, EverySecondEpoch())  # type: ignore[attr-defined]

    config = configuration(
        "method=sln_mo_lc",
        f"trainer.max_epochs={2 * pairs + 1}",
        "correction.last_epochs=1",
        model=model,
        train=size,
        test=size // 5,
    )
    with threads(THREADS):
        seconds = epochs(config, prepare=prepare).seconds  # normal, correcting, normal, …
    normal, correcting = seconds[0::2], seconds[1::2]
    return [
        compare(
            f"{model}, threads: {THREADS}: correcting / normal epoch",
            correcting,
            normal,
            target=1.2,
            details={"correcting, s": Spread.of(correcting), "normal, s": Spread.of(normal)},
        )
    ]


def evaluation(quick: bool) -> list[Figure]:
    """Compare epochs with and without evaluation, in turns in one run, in CPU time; a run is 300 epochs. 1 thread."""
    size, test, pairs = (256, 200, 1) if quick else (2_500, 10_000, 6)

    class EverySecondEpoch(pl.Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            trainer.check_val_every_n_epoch = 1 if trainer.current_epoch % 2 == 0 else 10_000

    def prepare(parts: Parts) -> None:
        callbacks: list[pl.Callback] = parts.trainer.callbacks  # type: ignore[attr-defined]
        (number,) = (n for n, callback in enumerate(callbacks) if isinstance(callback, EvaluationSchedule))
        callbacks[number] = EverySecondEpoch()

    epoch_count = f"trainer.max_epochs={2 * pairs + 1}"
    config = configuration("method=sln", epoch_count, "trainer.threads=1", model=SMALL, train=size, test=test)
    with threads(1):
        clock = epochs(config, prepare=prepare)
    seconds = clock.cpu if DEVICE == "cpu" else clock.seconds  # without, with, without, …
    without, cost = np.array(seconds[0::2]), np.array(seconds[1::2]) - np.array(seconds[0::2])
    figures = []
    for every, target in ((1, None), (10, None), (20, 15.0)):
        evaluations = sum(is_due(epoch, every, 300) for epoch in range(1, 301)) / 300
        shares = list(100 * evaluations * cost / (without + evaluations * cost))
        figures.append(
            Figure(
                f"{SMALL}: share of evaluation with evaluate_every={every}",
                float(np.median(shares)),
                "%",
                target,
                interval=median_interval(shares),
                details={"training, CPU s per epoch": Spread.of(list(without)), "evaluation": Spread.of(list(cost))},
            )
        )
    return figures


def growth(quick: bool) -> list[Figure]:
    """Measure the time per image of an epoch over N, and of each part of a step over C; batch 128, 1 thread."""
    with threads(1):
        figures = [_over_samples(SMALL, 1 if quick else 2, 1.05, quick)]
        figures.append(_over_samples(NOTHING, 1 if quick else 9, None, quick))
        return figures + _over_classes(quick)


def _over_samples(model: str, rounds: int, target: float | None, quick: bool) -> Figure:
    sizes = (500, 1_000) if quick else (5_000, 20_000, 50_000)
    times: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(rounds):
        for size in sizes:
            config = configuration(
                "method=sln", "trainer.max_epochs=2", "trainer.threads=1", model=model, train=size, test=0
            )
            times[size] += epochs(config).seconds
    per_image = {size: list(np.array(seconds) / size) for size, seconds in times.items()}
    small, large = sizes[0], sizes[-1]
    return compare(
        f"{model}: per image, N={large:,} / N={small:,}",
        per_image[large],
        per_image[small],
        target=target,
        details={f"N={size:,}, µs per image": Spread.of(values, 1e6) for size, values in per_image.items()},
    )


def _over_classes(quick: bool) -> list[Figure]:
    """Measure each part of a step alone. Linear growth is a factor of 100 from C=10 to C=1,000."""
    contenders: dict[str, Callable[[], object]] = {}
    for count in (10, 100, 1000):
        config = configuration(
            "method=sln", "trainer.max_epochs=1", "trainer.threads=1", model=SMALL, train=512, test=0, classes=count
        )
        for name, part in _parts_of_a_step(run(config)).items():
            contenders[f"{name}, C={count}"] = part
    times = in_turns(contenders, rounds=3 if quick else 100, warmup=3)
    names = list(dict.fromkeys(name.rsplit(", ", 1)[0] for name in contenders))
    figures = []
    for name in names:
        few, many = times[f"{name}, C=10"], times[f"{name}, C=1000"]
        details = {f"C={count}, µs": Spread.of(times[f"{name}, C={count}"], 1e6) for count in (10, 100, 1000)}
        figures.append(compare(f"{name}: C=1,000 / C=10", many, few, target=100, details=details))
    return figures


def _parts_of_a_step(parts: Parts) -> dict[str, Callable[[], object]]:
    parts.return_to_device()
    method, datamodule = parts.method, parts.datamodule
    batch = next(datamodule.epoch(0))()
    network, table = method.network.train(), method.table
    logits = network(batch.image).detach()
    leaf = logits.clone().requires_grad_()
    targets = table.targets(batch.index)
    generator = torch.Generator(DEVICE)
    average = MomentumAverage(network)

    def network_pass() -> None:
        network(batch.image).sum().backward()

    def loss_pass() -> None:
        (targets * method.class_losses(leaf)).sum(1).mean().backward()  # type: ignore[operator]

    return {
        "batch": next(datamodule.epoch(0)),
        "network, both ways": network_pass,
        "targets of the table": lambda: table.targets(batch.index),
        "SLN noise": lambda: method.sln(targets, generator),  # type: ignore[operator]
        "loss, both ways": loss_pass,
        "record of each sample": lambda: method.observe(batch.index, logits),
        "momentum update": average.update,
        "whole step, momentum update left out": lambda: method.step(batch),  # the hook ends with the run
    }
