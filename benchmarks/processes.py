"""Rows on whole processes: two runs at once, the time to the first step, a refused configuration, memory."""

from __future__ import annotations

import csv
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from benchmarks.measure import Figure, Spread, compare, in_turns, median_interval

ROOT = Path(__file__).resolve().parents[1]


def side_by_side(quick: bool) -> list[Figure]:
    """Compare two runs at once with two in sequence: warm processes, 3 epochs of 2,000 + 400 images."""
    context = multiprocessing.get_context("spawn")
    size = 256 if quick else 2_000
    pipes, workers = [], []
    for _ in range(2):
        pipe, worker_end = context.Pipe()
        worker = context.Process(target=_runs_on_demand, args=(worker_end, size), daemon=True)
        worker.start()
        pipes.append(pipe)
        workers.append(worker)

    def together() -> None:
        for pipe in pipes:
            pipe.send(1)
        for pipe in pipes:
            pipe.recv()

    def in_sequence() -> None:
        for pipe in pipes:
            pipe.send(2)
            pipe.recv()

    contenders = {"side by side, 1 thread each": together, "one after the other, 2 threads": in_sequence}
    times = in_turns(contenders, rounds=1 if quick else 5)
    for pipe, worker in zip(pipes, workers, strict=True):
        pipe.send(None)
        worker.join()
    together_s, sequence_s = times.values()
    return [
        compare(
            "side by side / one after the other",
            together_s,
            sequence_s,
            target=0.65,
            details={f"{name}, s": Spread.of(values) for name, values in times.items()},
        )
    ]


def _runs_on_demand(pipe: Connection, size: int) -> None:
    from benchmarks.measure import threads
    from benchmarks.our_run import SMALL, configuration, epochs

    while (count := pipe.recv()) is not None:
        with threads(count):
            epochs(configuration("method=sln", "trainer.max_epochs=3", model=SMALL, train=size, test=size // 5))
        pipe.send("done")


def two_commands(quick: bool) -> list[Figure]:
    """Compare epochs of `slnlab.train` on digits, with its own choice of threads.

    The sides are one command alone, two at once, and one alone with threads that spin while they wait. The first epoch
    is left out.
    """
    epochs: dict[str, list[float]] = {"alone": [], "two at once": [], "alone, spinning": []}
    overrides = ("trainer.threads=null", f"trainer.max_epochs={2 if quick else 6}", "trainer.progress=false")

    def commands(name: str, count: int, **variables: str) -> None:
        environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"} | variables
        with tempfile.TemporaryDirectory() as directory:
            running = [
                subprocess.Popen(
                    [sys.executable, "-m", "slnlab.train", f"runs_dir={directory}", f"seed={seed}", *overrides],
                    cwd=ROOT,
                    env=environment,
                    stdout=subprocess.DEVNULL,
                )
                for seed in range(count)
            ]
            assert [process.wait() for process in running] == [0] * count
            files = [path.open(newline="", encoding="utf-8") for path in Path(directory).rglob("metrics.csv")]
            seconds = [float(row["seconds"]) for file in files for row in list(csv.DictReader(file))[1:]]
        epochs[name].append(float(np.median(seconds)))

    in_turns(
        {
            "alone": lambda: commands("alone", 1),
            "two at once": lambda: commands("two at once", 2),
            "alone, spinning": lambda: commands("alone, spinning", 1, OMP_WAIT_POLICY="active"),
        },
        rounds=1 if quick else 5,
        warmup=0,
    )
    details = {f"{name}, s": Spread.of(seconds) for name, seconds in epochs.items()}
    return [
        compare("two at once / alone", epochs["two at once"], epochs["alone"], target=2.2, details=details),
        compare("alone / alone, spinning", epochs["alone"], epochs["alone, spinning"], details=details),
    ]


_FIRST_STEP = """
import os, sys, time
started = float(os.environ["BENCH_STARTED"])
before = time.time()
import torch, pytorch_lightning
imported = time.time() - before
from torch.optim.optimizer import register_optimizer_step_post_hook
def first_step(*_):
    print("BENCH", imported, time.time() - started - imported, flush=True)
    os._exit(0)
register_optimizer_step_post_hook(first_step)
sys.argv = ["slnlab.train", *sys.argv[1:]]
from slnlab.train import main
main()
"""


def start_up(quick: bool) -> list[Figure]:
    """Time processes of `slnlab.train` on digits up to the first optimiser step, and one refused for sln.sigma=-1."""
    rounds = 1 if quick else 4
    beyond: list[float] = []
    imports: list[float] = []
    refused: list[float] = []
    torch_alone: list[float] = []
    to_first_step: list[float] = []
    torch_cpu: list[float] = []

    def cpu_of_children() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    def first_step() -> None:
        before = cpu_of_children()
        with tempfile.TemporaryDirectory() as directory:
            made = subprocess.run(
                [sys.executable, "-c", _FIRST_STEP, f"runs_dir={directory}", "trainer.progress=false"],
                cwd=ROOT,
                env={**os.environ, "BENCH_STARTED": repr(time.time())},
                capture_output=True,
                encoding="utf-8",
            )
        lines = [line for line in made.stdout.splitlines() if line.startswith("BENCH")]
        assert lines, made.stderr
        _, imported, rest = lines[0].split()
        imports.append(float(imported))
        beyond.append(float(rest))
        to_first_step.append(cpu_of_children() - before)

    def timed(command: list[str], into: list[float], fails: bool) -> None:
        start, before = time.perf_counter(), cpu_of_children()
        made = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, encoding="utf-8")
        into.append(time.perf_counter() - start)
        if into is torch_alone:
            torch_cpu.append(cpu_of_children() - before)
        assert (made.returncode != 0) == fails, made.stderr

    in_turns(
        {
            "first step": first_step,
            "refused": lambda: timed(["-m", "slnlab.train", "sln.sigma=-1"], refused, True),
            "torch": lambda: timed(["-c", "import torch"], torch_alone, False),
        },
        rounds,
    )
    beyond, imports, refused, torch_alone = (times[1:] for times in (beyond, imports, refused, torch_alone))
    beyond_torch = [whole - alone for whole, alone in zip(to_first_step[1:], torch_cpu[1:], strict=True)]
    return [
        compare(
            "to the first step beyond the imports / importing torch and Lightning",
            beyond,
            imports,
            target=1 / 3,
            details={"beyond the imports, s": Spread.of(beyond), "imports, s": Spread.of(imports)},
        ),
        Figure(
            "to the first step, CPU time beyond import torch",
            float(np.median(beyond_torch)),
            "s",
            1.5,
            interval=median_interval(beyond_torch),
            details={
                "first step, CPU s": Spread.of(to_first_step[1:]),
                "import torch, CPU s": Spread.of(torch_cpu[1:]),
            },
        ),
        compare(
            "refused configuration / import torch",
            refused,
            torch_alone,
            target=0.5,
            details={"refused, s": Spread.of(refused), "import torch, s": Spread.of(torch_alone)},
        ),
    ]


_KEPT = """
import sys
import torch
import slnlab.train
from benchmarks.our_run import MIDDLE, configuration, epochs
torch.set_num_threads(1)
side, size = sys.argv[1], int(sys.argv[2])
if side == "returned":
    slnlab.train.keep_freed_memory = lambda: None
options = "method=ce", "trainer.max_epochs=4", "trainer.threads=1"
print("BENCH", *epochs(configuration(*options, model=MIDDLE, train=size, test=size // 5)).cpu)
"""


def kept_memory(quick: bool) -> list[Figure]:
    """Compare CPU times of epochs of 2,500 + 500 images in processes that take turns, 1 thread."""
    seconds: dict[str, list[float]] = {"returned": [], "kept": []}

    def process(side: str) -> None:
        command = [sys.executable, "-c", _KEPT, side, "256" if quick else "2500"]
        made = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
        lines = [line for line in made.stdout.splitlines() if line.startswith("BENCH")]
        assert lines, made.stderr
        seconds[side] += map(float, lines[0].split()[1:])

    in_turns({side: lambda side=side: process(side) for side in seconds}, rounds=1 if quick else 5, warmup=0)  # type: ignore[misc]
    details = {f"{side}, CPU s": Spread.of(times) for side, times in seconds.items()}
    ratio = compare(
        "returned / kept", seconds["returned"], seconds["kept"], target=1.1, sense="at least", details=details
    )
    return [ratio]


_PEAK = """
import contextlib, importlib, sys
import torch, torchvision, sklearn.metrics, matplotlib
from benchmarks.our_run import configuration, run
from slnlab.training import assemble
from slnlab import report
torch.set_num_threads(1)
def memory(key):
    with open("/proc/self/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(key)) / 1024
modules = sys.argv[3].split()  # all modules at the end of a small run, many of them imported late
for module in modules:
    with contextlib.suppress(Exception):
        importlib.import_module(module)
imported = memory("VmRSS:")
train, test = map(int, sys.argv[1:3])
config = configuration("method=sln", "trainer.max_epochs=1", model="MODEL", train=train, test=test)
run(config)
print("BENCH", imported, memory("VmHWM:") - imported, *(() if modules else sys.modules))
"""


def memory(quick: bool) -> list[Figure]:
    """Measure the peak resident memory of one epoch of 50,000 + 10,000 images with its record; Linux only."""
    from benchmarks.our_run import SMALL

    def peak(train: int, test: int, modules: str) -> list[str]:
        command = [sys.executable, "-c", _PEAK.replace("MODEL", SMALL), str(train), str(test), modules]
        made = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
        lines = [line for line in made.stdout.splitlines() if line.startswith("BENCH")]
        assert lines, made.stderr
        return lines[0].split()[1:]

    _, _, *modules = peak(200, 100, "")
    imported, beyond = peak(500, 100, " ".join(modules)) if quick else peak(50_000, 10_000, " ".join(modules))
    return [
        Figure(
            f"{SMALL}: peak − libraries",
            float(beyond),
            "MiB",
            400,
            "at most",
            details={"libraries, MiB": Spread.of([float(imported)])},
        )
    ]
