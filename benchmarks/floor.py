"""Step times beside the floor of a GPU's arithmetic and memory, with `trainer.compile` and bf16."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import DEVICE, Figure, Spread, compare, in_turns
from benchmarks.our_run import SMALL, WRN, Parts, configuration, run
from slnlab.callbacks import MomentumModel

WAYS = {
    "float32": (),
    "float32, compiled": ("trainer.compile=true",),
    "bf16": ("trainer.precision=bf16-mixed",),
    "bf16, compiled": ("trainer.precision=bf16-mixed", "trainer.compile=true"),
}


def step_against_floor(quick: bool) -> list[Figure]:
    """Compare a step of SLN-MO on WRN-28-2, batch 128, with the floor of its arithmetic and its bytes.

    The arithmetic is the FLOP of both passes at the rate of a large matrix product of the same precision. The bytes are
    every activation, written once and read twice, and the weights, gradients, momentum and average, at the rate of a
    large copy. Both rates are measured here. cuDNN's algorithms may beat the arithmetic; nothing beats the bytes.
    """
    model, size = (SMALL, 256) if quick else (WRN, 12_800)
    figures: list[Figure] = []
    seconds: dict[str, list[float]] = {}
    for name, overrides in WAYS.items():
        if quick and "compiled" in name:
            continue
        method_step, flop, moved = _prepared(model, size, overrides, 2 if "bf16" in name else 4)
        times = in_turns({name: method_step}, rounds=2 if quick else 100, warmup=2 if quick else 20)
        dtype = torch.bfloat16 if "bf16" in name else torch.float32
        floor = max(flop / _arithmetic_rate(dtype, quick), moved / _copy_rate(quick))
        seconds |= times
        figures.append(
            Figure(
                f"{model}, {name}: step / floor",
                float(np.median(times[name])) / floor,
                "×",
                details={f"{name}, ms": Spread.of(times[name], 1e3), "floor, ms": Spread.of([floor], 1e3)},
            )
        )
    for name in list(seconds)[1:]:
        both = {f"{way}, ms": Spread.of(seconds[way], 1e3) for way in ("float32", name)}
        figures.append(compare(f"{model}: float32 / {name}", seconds["float32"], seconds[name], details=both))
    return figures


def _prepared(model: str, size: int, overrides: tuple[str, ...], width: int) -> tuple[Callable[[], None], int, int]:
    """Return a function for one step of a run, its FLOP, and the bytes that it moves at least."""
    config = configuration("method=sln", "trainer.max_epochs=1", *overrides, model=model, train=size, test=0)
    held: list[Parts] = []
    parts = run(config, held.append)  # compiles, and fills the momentum buffers
    method = parts.method
    parts.return_to_device()
    (average,) = next(c for c in parts.trainer.callbacks if isinstance(c, MomentumModel)).averages.values()  # type: ignore[attr-defined]
    average.module.to(DEVICE)
    average.follow(method._optimizers[0])
    batch = next(parts.datamodule.epoch(0))()
    method.network.train()
    written = 0

    def count(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> None:
        nonlocal written
        if not list(module.children()):
            written += output.numel() * width

    hooks = [module.register_forward_hook(count) for module in method.network.modules()]
    counter = FlopCounterMode(display=False)
    with counter, torch.enable_grad():
        method.network.forward(batch.image).sum().backward()
    for hook in hooks:
        hook.remove()
    weights = sum(parameter.numel() * 4 for parameter in method.network.parameters())
    # Weights are read twice, gradients written and read; momentum, weights and averages are read and written.
    return lambda: method.step(batch), counter.get_total_flops(), 3 * written + 10 * weights


def _arithmetic_rate(dtype: torch.dtype, quick: bool) -> float:
    """Return the FLOP per second of a square matrix product."""
    size = 256 if quick else 8192
    a, b = (torch.randn(size, size, device=DEVICE).to(dtype) for _ in range(2))
    times = in_turns({"product": lambda: a @ b}, rounds=3 if quick else 20, warmup=3)
    return float(2 * size**3 / np.median(times["product"]))


def _copy_rate(quick: bool) -> float:
    """Return the bytes per second of a copy, read and written."""
    source = torch.empty(2**20 if quick else 2**28, device=DEVICE)
    target = torch.empty_like(source)
    times = in_turns({"copy": lambda: target.copy_(source)}, rounds=3 if quick else 20, warmup=3)
    return float(2 * source.numel() * 4 / np.median(times["copy"]))
