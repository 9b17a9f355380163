"""Measure times in turns, with their spread and intervals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

Times = dict[str, list[float]]

DEVICE = os.environ.get("BENCH_DEVICE", "cpu")
"""The measured device: "cpu", or "cuda" (`make bench-gpu`)."""

torch.backends.cudnn.allow_tf32 = False  # as in a run with trainer.precision=32-true


def synchronise() -> None:
    """Wait for the device to finish, so that its work counts."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def in_turns(contenders: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 1) -> Times:
    """Return the seconds of each contender, run in turns (A B A B …), so that other load slows all alike."""
    times: Times = {name: [] for name in contenders}
    for turn in range(warmup + rounds):
        for name, run in contenders.items():
            synchronise()
            start = time.perf_counter()
            run()
            synchronise()
            if turn >= warmup:
                times[name].append(time.perf_counter() - start)
    return times


def fresh_process(*arguments: str) -> Any:
    """Run Python with these arguments in a process of its own; return the JSON of its line `BENCH …`."""
    root = Path(__file__).resolve().parents[1]
    made = subprocess.run([sys.executable, *arguments], cwd=root, capture_output=True, encoding="utf-8")
    lines = [line for line in made.stdout.splitlines() if line.startswith("BENCH")]
    assert lines, made.stderr
    return json.loads(lines[0].removeprefix("BENCH"))


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Spread:
    """Median, quartiles and extremes of n measured values."""

    median: float
    q1: float
    q3: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float], scale: float = 1.0) -> Spread:
        v = np.asarray(values) * scale
        median, q1, q3, low, high = (float(q) for q in np.percentile(v, [50, 25, 75, 0, 100]))
        return cls(median, q1, q3, low, high, len(v))


def median_interval(paired: Sequence[float], draws: int = 10_000) -> tuple[float, float]:
    """Return the bootstrap 95 % interval of the median of paired ratios or differences."""
    values = np.asarray(paired)
    picks = np.random.default_rng(0).integers(len(values), size=(draws, len(values)))
    low, high = np.percentile(np.median(values[picks], axis=1), [2.5, 97.5])
    return float(low), float(high)


@dataclass(frozen=True)
class Figure:
    """One number of the table: value, interval, and target.

    Args:
        what: the quantity, e.g. "epoch, usual loop / ours".
        value: median of the paired values.
        unit: "×", "ms", "MiB".
        target, sense: the bound, and the wanted side of it; None: no bound.
        interval: 95 % interval of the median; None for a single value.
        judged: the number to compare with the target; None: the value.
        details: name with unit → spread of each timed side.
    """

    what: str
    value: float
    unit: str
    target: float | None = None
    sense: Literal["at least", "at most"] = "at most"
    interval: tuple[float, float] | None = None
    judged: float | None = None
    details: dict[str, Spread] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        judged = self.value if self.judged is None else self.judged
        return judged >= self.target if self.sense == "at least" else judged <= self.target

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "met": self.met}


def compare(
    what: str,
    numerator: Sequence[float],
    denominator: Sequence[float],
    *,
    target: float | None = None,
    sense: Literal["at least", "at most"] = "at most",
    judge_upper_end: bool = False,
    details: dict[str, Spread] | None = None,
) -> Figure:
    """Return the median of the paired ratios with its interval."""
    ratios = np.asarray(numerator) / np.asarray(denominator)
    interval = median_interval(list(ratios))
    return Figure(
        what,
        float(np.median(ratios)),
        "×",
        target,
        sense,
        interval,
        judged=interval[1] if judge_upper_end else None,
        details=details or {},
    )
