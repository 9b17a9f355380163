"""The runs and trials of a study, in this process or by a launcher."""

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
from slnlab.processes.stopping import obeying_signals, stop_if_requested
from slnlab.record.metrics import read_metrics
from slnlab.record.result import Result
from slnlab.record.run_directory import RunDirectory
from slnlab.storage.locks import is_held
from slnlab.storage.writing import replacing
from slnlab.study.plan import Plan, StudyRun, Values
from slnlab.study.record import Trial

if TYPE_CHECKING:
    from slnlab.callbacks.run_record import Watch

log = logging.getLogger(__name__)

DIVERGED = re.compile(rf"\b{Diverged.__name__}: ")
"""Pattern in the `failure.txt` of a diverged run."""


def share(count: int, work: Callable[[int, bool], None]) -> None:
    """Do works 0, 1, …, count − 1. Those that another process does now are awaited after the others.

    Args:
        count: number of works.
        work: does the work of this number; its second argument says to wait for another process. Raises Busy otherwise.
    """
    later: list[int] = []
    for wait, numbers in ((False, range(count)), (True, later)):
        for number in numbers:
            try:
                work(number, wait)
            except Busy as error:
                log.info("%s; its turn comes later", error)
                later.append(number)


def train_run(run: StudyRun, wait: bool = False, watch: Watch | None = None) -> Result:
    """The result of a run, which is trained unless it is finished.

    Args:
        run: of the study.
        wait: wait for another process that trains this run.
        watch: receives each row of metrics.csv.

    Raises:
        SlnlabError: see `slnlab.train.train`.
    """
    from slnlab.train import train

    return train(run.spec, run.directory, run.overrides, wait, watch)


def sweep(plan: Plan, overrides: Sequence[str]) -> None:
    """Let the launcher do the unfinished runs of a sweep. The directory of each run holds the outcome.

    Args:
        plan: of the study.
        overrides: of the sweep.

    Raises:
        Stopped: a signal came; the launcher was stopped.
    """
    command = [sys.executable, "-m", "slnlab.train", "-m", *plan.launcher, *overrides]
    log.info("python %s", shlex.join(command[1:]))
    with obeying_signals():
        launcher = subprocess.Popen(command)
        try:
            while launcher.poll() is None:
                stop_if_requested()
                time.sleep(0.1)
        finally:
            if launcher.poll() is None:
                launcher.terminate()
                launcher.wait()


def launched_result(run: StudyRun, wait: bool = False) -> Result:
    """The result of a run that a launcher has done, this study's or another process's.

    Args:
        run: of the study.
        wait: wait for another process that trains this run.

    Raises:
        Busy: another process trains it, and `wait` is False.
        Diverged: the loss of the run became infinite or NaN.
        SlnlabError: the run is unfinished for another reason.
        Stopped: a signal came while waiting.
    """
    directory = RunDirectory(run.directory)
    with obeying_signals():
        while not directory.finished and is_held(run.directory):
            if not wait:
                raise Busy(f"another process trains the run in {run.directory}")
            stop_if_requested()
            time.sleep(0.5)
    if directory.finished:
        return Result.load(directory.result)
    why = "the launcher has left no result; see its log"
    if directory.failure.exists():
        why = directory.failure.read_text(encoding="utf-8").strip()
    if DIVERGED.search(why):
        raise Diverged(why)
    raise SlnlabError(f"{run.directory}: {why}")


def run_trial(
    plan: Plan, values: Values, wait: bool = True, watch: Callable[[float, int], None] | None = None
) -> Trial:
    """A trial: one run per trial seed. An error of a run becomes the state of the trial.

    Args:
        plan: of the study.
        values: of the trial.
        wait: wait for another process that trains one of the runs.
        watch: receives the accuracy so far, in [0, 1], and the epoch (from 1) of the first seed's run; may raise
            Pruned.

    Raises:
        Busy: another process trains one of the runs, and `wait` is False.
    """
    runs = [plan.trial(values, seed) for seed in plan.trial_seeds]
    directories = [str(run.directory) for run in runs]
    trial = Trial(values=dict(values), state="finished", accuracies=[], directories=directories)
    for run in runs:
        key = f"val/{plan.row_of(run)}/accuracy"
        watched = _Watched(watch, key, plan.last) if watch and run is runs[0] else None
        try:
            if plan.launcher:
                launched_result(run, wait)
            else:
                train_run(run, wait, watched)
            trial.accuracies.append(_accuracy(run, key, plan.last))
            if watched and not watched.seen:  # the run was finished before
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
        except Exception as error:  # a broken trial must not end the study
            expected = isinstance(error, SlnlabError)
            log.error("the trial %s failed: %s", run, error, exc_info=not expected)
            message = str(error) if expected else f"{type(error).__name__}: {error}"
            return trial.model_copy(update={"state": "failed", "message": message.splitlines()[0]})
    log.info("%.2f %% of the held-out noisy labels", 100 * trial.accuracy)
    return trial


class _Watched:
    """A watch of rows of metrics.csv that passes on the accuracy so far."""

    def __init__(self, watch: Callable[[float, int], None], key: str, last: int) -> None:
        self.watch, self.key, self.last = watch, key, last
        self.seen: list[float] = []

    def __call__(self, row: dict[str, float]) -> None:
        if self.key in row:  # evaluated after this epoch
            self.seen.append(row[self.key])
            self.watch(fmean(self.seen[-self.last :]), int(row["epoch"]))


def _accuracy(run: StudyRun, key: str, last: int) -> float:
    rows = read_metrics(RunDirectory(run.directory).metrics)
    if not rows or key not in rows[-1]:
        raise DataError(f"{run.directory}: metrics.csv has no {key}")
    return fmean([row[key] for row in rows if key in row][-last:])
