"""Rows on single steps: augmentation, the cost of Lightning and of SLN, the momentum update."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.callbacks import EMAWeightAveraging
from torch.optim.swa_utils import AveragedModel

from benchmarks.made import MEAN, STD, MadeImages
from benchmarks.measure import (
    DEVICE,
    Figure,
    Spread,
    Times,
    compare,
    in_turns,
    synchronise,
    threads,
)
from benchmarks.our_run import MIDDLE, Parts, configuration, epochs
from benchmarks.usual_loop import TRAIN
from slnlab.callbacks import MomentumAverage, MomentumModel
from slnlab.data.augment import CropFlip, Normalise
from slnlab.data.batches import Batch
from slnlab.models import WideResNet
from slnlab.processes.heap import keep_freed_memory


def augmentation(quick: bool) -> list[Figure]:
    """Compare batches of 128, with their draws, with torchvision's transforms on PIL images without workers."""
    data = MadeImages(5_000, 1).load("train")
    images, crop_flip, normalise = data.images.to(DEVICE), CropFlip(4, True), Normalise(MEAN, STD)
    pictures = [Image.fromarray(image) for image in data.images[:512].permute(0, 2, 3, 1).contiguous().numpy()]
    generator = torch.Generator(DEVICE)
    batches = torch.randperm(len(images), generator=generator, device=DEVICE).split(128)

    def ours() -> None:
        for index in batches:
            normalise(crop_flip.apply(images, index, crop_flip.draw(len(index), generator, DEVICE), (32, 32)))

    def pil() -> None:
        for first in range(0, len(pictures), 128):
            torch.stack([TRAIN(picture) for picture in pictures[first : first + 128]])

    keep_freed_memory()  # as a run does; both sides gain
    with threads(1):
        times = in_turns({"ours": ours, "PIL": pil}, rounds=3 if quick else 30)
    rates = {"ours": len(images) / np.array(times["ours"]), "PIL": len(pictures) / np.array(times["PIL"])}
    return [
        compare(
            "images/s, ours / PIL",
            list(rates["ours"]),
            list(rates["PIL"]),
            target=50,
            sense="at least",
            details={f"{name}, images/s": Spread.of(list(rate)) for name, rate in rates.items()},
        )
    ]


def sln_step(quick: bool) -> list[Figure]:
    """Compare neighbouring steps of one run with and without SLN, in random order within each pair, 1 thread."""
    figures = [_paired_steps(quick, "SLN step / CE step", 1.05, momentum=False)]
    figures.append(_paired_steps(quick, "SLN step with momentum model / CE step without", None, momentum=True))
    return figures


def _paired_steps(quick: bool, what: str, target: float | None, momentum: bool) -> Figure:
    size, rounds = (1_280, 2) if quick else (5_120, 4)
    times: Times = {"CE": [], "SLN": []}
    chance = np.random.default_rng(0)

    def prepare(parts: Parts) -> None:
        method, step = parts.method, parts.method.step
        order: list[str] = []

        def timed(batch: Batch) -> None:
            if not order:
                order.extend(chance.permutation(["CE", "SLN"]))
            name = order.pop()
            method.sln.sigma = 1.0 if name == "SLN" else 0.0  # type: ignore[union-attr]
            if momentum:
                _follow(parts.trainer, name == "SLN")
            synchronise()
            start = time.perf_counter()
            step(batch)
            synchronise()
            times[name].append(time.perf_counter() - start)

        method.step = timed  # type: ignore[method-assign]

    config = configuration(
        "method=sln",
        f"momentum.enabled={str(momentum).lower()}",
        f"trainer.max_epochs={rounds}",
        "trainer.threads=1",
        model=MIDDLE,
        train=size,
        test=0,
    )
    with threads(1):
        epochs(config, prepare=prepare)
    skip = 2 if quick else 10  # the first steps warm up
    return compare(
        what,
        times["SLN"][skip:],
        times["CE"][skip:],
        target=target,
        judge_upper_end=target is not None,
        details={f"{name}, ms": Spread.of(values[skip:], 1e3) for name, values in times.items()},
    )


def _follow(trainer: pl.Trainer, on: bool) -> None:
    (callback,) = (c for c in trainer.callbacks if isinstance(c, MomentumModel))  # type: ignore[attr-defined]
    (average,) = callback.averages.values()
    if on:
        vars(average).pop("update", None)
    else:
        vars(average)["update"] = lambda: None


def momentum_update(quick: bool) -> list[Figure]:
    """Compare one update of WRN-28-2 with Lightning's callback after a batch, 1 thread."""
    network = WideResNet().to(DEVICE)
    average = MomentumAverage(network)
    module = pl.LightningModule()
    module.network = copy.deepcopy(network)
    callback = EMAWeightAveraging(decay=0.999, device=torch.device(DEVICE))
    trainer: Any = SimpleNamespace(global_step=0)
    callback.setup(trainer, module, "fit")
    assert isinstance(callback._average_model, AveragedModel)

    def lightning() -> None:
        trainer.global_step += 1
        callback.on_train_batch_end(trainer, module, None, None, 0)

    contenders: dict[str, Callable[[], object]] = {"Lightning": lightning, "ours": average.update}
    with threads(1):
        times = in_turns(contenders, rounds=10 if quick else 300, warmup=3)
    return [
        compare(
            "update, Lightning / ours",
            times["Lightning"],
            times["ours"],
            target=5,
            sense="at least",
            details={f"{name}, ms": Spread.of(values, 1e3) for name, values in times.items()},
        )
    ]
