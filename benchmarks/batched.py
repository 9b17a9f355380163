"""Rows on runs that train together (launcher=batched), and on what stacking convolutions would gain."""

from __future__ import annotations

import multiprocessing
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy, max_pool2d

from benchmarks.measure import Figure, Spread, compare, in_turns, threads
from slnlab.config import compose
from slnlab.launchers.local import _begin, _work
from slnlab.launchers.planned import Outcome, Planned
from slnlab.models import SmallCNN
from slnlab.processes.forkserver import Surroundings
from slnlab.record.result import Result
from slnlab.training.settling import settle

SAMPLES, LENGTH, CLASSES = 10_000, 384, 10
SIGMAS = (0.1, 0.2, 0.5, 1.0)


def batched(quick: bool) -> list[Figure]:
    """Compare runs that train together with warm single runs and with a process per run, all with one thread.

    Heads on 10,000 frozen features with 384 dimensions, SLN-MO-LC, evaluated after every epoch on 10,000 others; σ ×
    seeds. All three do whole runs, with record and checkpoints.
    """
    count, epochs, rounds = (4, 2, 1) if quick else (16, 20, 3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        features(folder / "features.npz", 200 if quick else SAMPLES)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _begin, (None, Surroundings())) as pool:
            return [
                *_heads(pool, folder, "linear", count, epochs, rounds, cold=True),
                *_heads(pool, folder, "mlp", count // 4, max(2, epochs // 6), rounds, cold=False),
            ]


def _heads(
    pool: ProcessPoolExecutor, folder: Path, model: str, count: int, epochs: int, rounds: int, *, cold: bool
) -> list[Figure]:
    made = 0

    def options() -> list[str]:
        nonlocal made
        made += 1
        return [
            *("data=features", f"data.source.root={folder / 'features.npz'}", "noise=sym", "method=sln_mo_lc"),
            *(f"model={model}", f"sln.sigma={SIGMAS[made % len(SIGMAS)]}", f"seed={made // len(SIGMAS)}"),
            *(f"trainer.max_epochs={epochs}", "trainer.accelerator=cpu", "trainer.progress=false", "trainer.threads=1"),
        ]

    def runs(number: int) -> list[Planned]:
        each = [options() for _ in range(number)]
        return [Planned(settle(compose(overrides)), folder / f"{model}{overrides}", (), "") for overrides in each]

    def warm(group: Sequence[Planned]) -> tuple[float, float]:
        found = pool.submit(_timed, group).result()
        results = [Result.load(planned.directory / "result.json") for planned in group]
        stepping[len(group)].append(sum(result.timing.total_seconds for result in results) / found[0])
        return found[0] / len(group), found[1] / len(group)

    def process() -> tuple[float, float]:
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        command = [sys.executable, "-m", "slnlab.train", *options(), f"runs_dir={folder / 'cold'}"]
        subprocess.run(command, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return time.perf_counter() - start, cpu

    stepping: dict[int, list[float]] = {1: [], count: []}
    warm(runs(1))  # imports
    sides: dict[str, list[tuple[float, float]]] = {"together": [], "warm": [], "process": []}
    for _ in range(rounds):
        sides["together"].append(warm(runs(count)))
        sides["warm"].append(warm(runs(1)))
        if cold:
            sides["process"].append(process())
    figures = []
    names = {"warm": "a warm single run", "process": "a process per run"}
    targets = {("warm", "linear"): 4.0, ("process", "linear"): 20.0}
    for side, against in names.items():
        for kind, unit in enumerate(("", ", CPU time")):
            ours, theirs = ([times[kind] for times in sides[each]] for each in ("together", side))
            if theirs:
                figures.append(
                    compare(
                        f"{count} × {model}, {epochs} epochs: {against} / a run of a company{unit}",
                        theirs,
                        ours,
                        target=None if kind else targets.get((side, model)),
                        sense="at least",
                        details={f"{against}, s": Spread.of(theirs), "a run of a company, s": Spread.of(ours)},
                    )
                )
    shares = {f"steps of {number}, share": Spread.of(found) for number, found in stepping.items()}
    what = f"{count} × {model}: steps and label correction, share of the seconds of a company"
    return [*figures, Figure(what, float(np.median(stepping[count])), "", details=shares)]


def features(path: Path, samples: int) -> None:
    """Write clusters of vectors that a linear head separates in part."""
    generator = np.random.default_rng(0)
    centres = 0.12 * generator.normal(size=(CLASSES, LENGTH))
    arrays = {}
    for split in ("train", "test"):
        labels = generator.integers(CLASSES, size=samples)
        vectors = centres[labels] + generator.normal(size=(samples, LENGTH))
        arrays |= {f"{split}_features": vectors.astype(np.float32), f"{split}_labels": labels}
    np.savez(path, **arrays)  # type: ignore[arg-type]


def _timed(group: Sequence[Planned]) -> tuple[float, float]:
    """Wall and CPU seconds of a group, in the worker."""
    wall, cpu = time.perf_counter(), time.process_time()
    outcomes = _work(group, 1)
    assert outcomes == [Outcome("done")] * len(group), outcomes
    return time.perf_counter() - wall, time.process_time() - cpu


def grouped_convolutions(quick: bool) -> list[Figure]:
    """Compare a step of eight small CNNs on digits, one after the other, with one network of grouped convolutions."""
    count, batch = 8, 64
    steps = 2 if quick else 40
    with threads(1):
        images = torch.randn(count, batch, 1, 8, 8)
        labels = torch.randint(CLASSES, (count, batch))
        singles = [SmallCNN(1, CLASSES).to(memory_format=torch.channels_last) for _ in range(count)]

        def one_by_one() -> None:
            for network, of_run, own in zip(singles, images, labels, strict=True):
                cross_entropy(network(of_run), own).backward()

        contenders = {"one by one": one_by_one}
        for layout, name in ((torch.contiguous_format, "grouped"), (torch.channels_last, "grouped, channels last")):
            stacked = _Grouped(count).to(memory_format=layout)  # type: ignore[call-overload]
            side_by_side = images.transpose(0, 1).reshape(batch, count, 8, 8).contiguous(memory_format=layout)
            contenders[name] = partial(_step, stacked, side_by_side, labels)
        times = in_turns(contenders, steps)
    grouped = min((name for name in times if name != "one by one"), key=lambda name: np.median(times[name]))
    details = {f"{name}, ms": Spread.of(seconds, 1e3) for name, seconds in times.items()}
    what = (
        f"{count} CNNs 32/32/64/64, batches of {batch}, forward and backward: one by one / grouped (the better layout)"
    )
    return [compare(what, times["one by one"], times[grouped], details=details)]


def _step(stacked: _Grouped, images: torch.Tensor, labels: torch.Tensor) -> None:
    (cross_entropy(stacked(images).flatten(0, 1), labels.flatten()) * len(labels)).backward()


class _Grouped(nn.Module):
    """`count` networks like model=cnn on digits, side by side in the channels: (B, count, 8, 8) → (count, B, 10)."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        widths = (1, 32, 32, 64, 64)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(count * before, count * after, 3, padding=1, groups=count, bias=False)
            for before, after in pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(count * width) for width in widths[1:])
        self.weight = nn.Parameter(torch.randn(count, CLASSES, widths[-1]) / 8)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        values = images
        for number, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            values = norm(convolution(values)).relu()
            if number in (1, 2):
                values = max_pool2d(values, 2)
        pooled = values.mean((2, 3)).view(len(images), self.count, -1).transpose(0, 1)
        return torch.bmm(pooled, self.weight.transpose(1, 2))
