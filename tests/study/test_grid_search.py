"""The trials of a grid and the final runs, with another process beside them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock
from studies import sigmas, trials

from slnlab.study.plan import Plan
from slnlab.tune import tune


@contextmanager
def held_until(held: Path, done: Path) -> Iterator[None]:
    """Another process holds a run until a second one is finished."""
    held.mkdir(parents=True)
    lock = FileLock(held / ".lock", thread_local=False)
    lock.acquire()

    def release() -> None:
        while not (done / "result.json").exists():
            time.sleep(0.05)
        lock.release()

    thread = threading.Thread(target=release, daemon=True)  # ends with a test that fails
    thread.start()
    yield
    thread.join()


def test_trials_of_another_process_are_waited_for_last(caplog: pytest.LogCaptureFixture) -> None:
    """Two people then share the trials of a study instead of waiting at the first one."""
    plan = Plan(sigmas())
    first, second = (plan.trial({"sln.sigma": sigma}, 0).directory for sigma in ("0.1", "0.5"))
    with held_until(first, second), caplog.at_level(logging.INFO):
        study = trials(plan)
    assert [trial.values["sln.sigma"] for trial in study.trials] == ["0.1", "0.5"], "in the order of the grid"
    assert [trial.state for trial in study.trials] == ["finished", "finished"]
    assert sum("another process" in record.message for record in caplog.records) == 1


def test_final_runs_of_another_process_are_waited_for_last(caplog: pytest.LogCaptureFixture) -> None:
    plan = Plan([*sigmas("0.1", "0.1001"), "seed=0,1", "data.noisy_val=20"])
    chosen = trials(plan).chosen
    assert chosen is not None
    first, second = (plan.final(chosen, seed).directory for seed in (0, 1))
    with held_until(first, second), caplog.at_level(logging.INFO):
        study = tune(plan)
    assert [final.seed for final in study.finals] == [0, 1], "in the order of the seeds"
    assert [Path(final.directory) for final in study.finals] == [first, second]
    assert sum("another process" in record.message for record in caplog.records) == 1
