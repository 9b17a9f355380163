"""The runs of a study, done here or by a launcher, and the trials that they make up."""

from __future__ import annotations

import json
import logging
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from statistics import fmean
from typing import TYPE_CHECKING

from slnlab.errors import Busy, DataError, Diverged, Pruned, SlnlabError
from slnlab.processes.stopping import obeying_signals, stop_if_told
from slnlab.record.result import Result, read_metrics
from slnlab.record.run_directory import RunDirectory
from slnlab.storage.writing import replacing
from slnlab.study.plan import Plan, StudyRun, Values
from slnlab.study.record import Trial

if TYPE_CHECKING:
    from slnlab.callbacks.run_record import Watch

log = logging.getLogger(__name__)

DIVERGED = re.compile(rf"\b{Diverged.__name__}: ")
"""In what a run that diverged has written down."""


def train_run(run: StudyRun, wait: bool = False, watch: Watch | None = None) -> Result:
    """Do one run of a study, or take its result."""
    from slnlab.train import train

    return train(run.spec, run.directory, run.overrides, wait, watch)


def sweep(plan: Plan, overrides: Sequence[str]) -> None:
    """Have the launcher do what is missing of some runs; what became of each, its directory says.

    Raises:
        Stopped: a signal came; the launcher was told.
    """
    command = [sys.executable, "-m", "slnlab.train", "-m", *plan.launcher, *overrides]
    log.info("python %s", shlex.join(command[1:]))
    with obeying_signals():
        launcher = subprocess.Popen(command)
        try:
            while launcher.poll() is None:
                stop_if_told()
                time.sleep(0.1)
        finally:
            if launcher.poll() is None:
                launcher.terminate()
                launcher.wait()


def launched_result(run: StudyRun) -> Result:
    """What a launcher's run has left.

    Raises:
        Diverged: its loss is no longer finite.
        SlnlabError: it is not finished for another reason.
    """
    directory = RunDirectory(run.directory)
    if directory.finished:
        return Result.load(directory.result)
    failure = run.directory / "failure.txt"
    why = "the launcher has left no result; see its log"
    if failure.exists():
        why = failure.read_text(encoding="utf-8").strip()
    if DIVERGED.search(why):
        raise Diverged(why)
    raise SlnlabError(f"{run.directory}: {why}")


def run_trial(
    plan: Plan, values: Values, wait: bool = True, watch: Callable[[float, int], None] | None = None
) -> Trial:
    """One choice of values over the seeds of the trials.

    Args:
        plan: the study's.
        values: of the trial.
        wait: for a process that is doing this very run.
        watch: is shown the accuracy so far and the epoch (from 1) of the first seed's run; may raise Pruned.

    Raises:
        Busy: another process is doing it, and `wait` is False.
    """
    runs = [plan.trial(values, seed) for seed in plan.trial_seeds]
    directories = [str(run.directory) for run in runs]
    trial = Trial(values=dict(values), state="finished", accuracies=[], directories=directories)
    key = f"val/{plan.weights}/accuracy"
    for run in runs:
        watched = _Watched(watch, key, plan.last) if watch and run is runs[0] else None
        try:
            if plan.launcher:
                launched_result(run)
            else:
                train_run(run, wait, watched)
            trial.accuracies.append(_accuracy(run, key, plan.last))
            if watched and not watched.seen:  # finished before, and not pruned then
                with suppress(Pruned):
                    for row in read_metrics(RunDirectory(run.directory).metrics):
                        watched(row)
        except Busy:
            raise
        except Pruned as error:
            with replacing(RunDirectory(run.directory).pruned) as file:
                file.write((json.dumps({"study": str(plan.directory), "why": str(error)}) + "\n").encode())
            log.info("pruned: %s", error)
            return trial.model_copy(update={"state": "pruned", "message": str(error)})
        except Diverged as error:
            return trial.model_copy(update={"state": "diverged", "message": str(error)})
        except Exception as error:  # one trial's trouble must not cost a night's others
            expected = isinstance(error, SlnlabError)
            log.error("the trial %s failed: %s", run, error, exc_info=not expected)
            message = str(error) if expected else f"{type(error).__name__}: {error}"
            return trial.model_copy(update={"state": "failed", "message": message.splitlines()[0]})
    log.info("%.2f %% of the held-out noisy labels", 100 * trial.accuracy)
    return trial


class _Watched:
    """Turns the rows of metrics.csv into the accuracy so far."""

    def __init__(self, watch: Callable[[float, int], None], key: str, last: int) -> None:
        self.watch, self.key, self.last = watch, key, last
        self.seen: list[float] = []

    def __call__(self, row: dict[str, float]) -> None:
        self.seen.append(row[self.key])
        self.watch(fmean(self.seen[-self.last :]), len(self.seen))


def _accuracy(run: StudyRun, key: str, last: int) -> float:
    rows = read_metrics(RunDirectory(run.directory).metrics)
    if not rows or key not in rows[-1]:
        raise DataError(f"{run.directory}: metrics.csv has no {key}")
    return fmean(row[key] for row in rows[-last:])
