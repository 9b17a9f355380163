"""The trials of a grid."""

from __future__ import annotations

import logging
import threading
import time

import pytest
from filelock import FileLock
from studies import sigmas, trials

from slnlab.study.plan import Plan


def test_runs_of_another_process_are_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    """Two people then share the trials of a study instead of waiting at the first one."""
    plan = Plan(sigmas())
    held = plan.trial({"sln.sigma": "0.1"}, 0).directory
    held.mkdir(parents=True)
    lock = FileLock(held / ".lock", thread_local=False)
    lock.acquire()

    def release() -> None:
        other = plan.trial({"sln.sigma": "0.5"}, 0).directory / "result.json"
        while not other.exists():
            time.sleep(0.05)
        lock.release()

    thread = threading.Thread(target=release)
    thread.start()
    with caplog.at_level(logging.INFO):
        study = trials(plan)
    thread.join()
    assert [trial.values["sln.sigma"] for trial in study.trials] == ["0.1", "0.5"], "in the order of the grid"
    assert [trial.state for trial in study.trials] == ["finished", "finished"]
    assert sum("another process" in record.message for record in caplog.records) == 1
