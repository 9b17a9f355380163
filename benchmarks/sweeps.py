"""Rows on sweeps: the cost of a run beyond its training, and of a thousand runs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from filelock import FileLock

from benchmarks.measure import Figure, Spread, compare
from slnlab.config import compose
from slnlab.launchers.local import _begin, _work
from slnlab.launchers.planned import Planned
from slnlab.processes.forkserver import Surroundings
from slnlab.record.sweep_plan import run_statuses, write_plan
from slnlab.sweep import table
from slnlab.tables.layout import make_tables
from slnlab.tables.markdown import markdown
from slnlab.tables.runs import find_runs, group_runs
from slnlab.tables.table import make_rows
from slnlab.training.settling import settle

IMPORTS = "import torch, pytorch_lightning"


def extra_run(quick: bool) -> list[Figure]:
    """Compare one-epoch runs of digits in one process, as launcher=local does them, with processes that only import."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    rounds = 2 if quick else 8
    beyond: list[float] = []
    imports: list[float] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _begin, (None, Surroundings())) as pool,
    ):
        for seed in range(rounds + 1):
            config = compose(["trainer.max_epochs=1", f"seed={seed}", "trainer.accelerator=cpu"])
            directory = Path(folder) / f"seed{seed}"
            start = time.perf_counter()
            pool.submit(_work, [Planned(settle(config), directory, (), "")], 1).result()
            whole = time.perf_counter() - start
            if seed:  # the first one imports
                result = json.loads((directory / "result.json").read_text(encoding="utf-8"))
                beyond.append(whole - result["timing"]["total_seconds"])
                start = time.perf_counter()
                subprocess.run([sys.executable, "-c", IMPORTS], check=True)
                imports.append(time.perf_counter() - start)
    details = {"beyond training, s": Spread.of(beyond), "imports, s": Spread.of(imports)}
    return [compare("extra run beyond its training / imports", beyond, imports, target=1 / 3, details=details)]


def thousand_runs(quick: bool) -> list[Figure]:
    """Compare the tools for 1,000 runs with one run of digits of 60 epochs.

    The runs are copies of its directory, as 200 configurations; all but the last ten are finished.
    """
    count = 20 if quick else 1_000
    figures = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = compose(
            ["trainer.accelerator=cpu", "trainer.progress=false", *(["trainer.max_epochs=2"] if quick else [])]
        )
        start = time.perf_counter()
        from slnlab.train import train

        one = folder / "one"
        train(config, one)
        single = time.perf_counter() - start
        sweep = folder / "sweep"
        result = json.loads((one / "result.json").read_text(encoding="utf-8"))
        directories = []
        for number in range(count):
            directory = sweep / "digits" / "sym-0.4" / "sln" / f"{number // 5:010x}" / f"seed{number % 5}"
            shutil.copytree(one, directory, ignore=shutil.ignore_patterns("checkpoints", "*.npz"))
            mine = {**result, "seed": number % 5, "group": f"{number // 5:010x}"}
            mine["identity"] = {**result["identity"], "seed": number % 5, "sln": {"sigma": number // 5 / 100}}
            (directory / "result.json").write_text(json.dumps(mine), encoding="utf-8")
            directories.append(directory)
        for directory in directories[-10:]:
            (directory / "result.json").unlink()

        def status() -> None:
            table(run_statuses(sweep))

        def report() -> None:
            markdown(make_tables(make_rows(group_runs(find_runs([sweep]).runs))))

        def locks() -> None:
            for directory in directories:
                with FileLock(directory / ".lock"):
                    pass

        def plans() -> None:
            write_plan(sweep, directories, ["seed=0,1,2,3,4"])

        def compositions() -> None:
            for number in range(count // 10):
                composed = compose([f"seed={number}"])
                settle(composed)

        parts = {
            "status": (status, 1),
            "report's table": (report, 1),
            "taking and freeing every lock": (locks, 1),
            "writing the plan": (plans, 1),
            "composing and checking, a tenth of them, times 10": (compositions, 10),
        }
        for what, (part, times) in parts.items():
            seconds = []
            for _ in range(1 if quick else 3):
                start = time.perf_counter()
                part()
                seconds.append((time.perf_counter() - start) * times)
            figures.append(
                Figure(
                    f"{count:,} runs, {what} / one run",
                    float(np.median(seconds)) / single,
                    "×",
                    target=2 if part is compositions else None,
                    details={f"{what}, s": Spread.of(seconds), "one run, s": Spread.of([single])},
                )
            )
    return figures
