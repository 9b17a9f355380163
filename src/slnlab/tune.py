"""Choose hyper-parameters on held-out *noisy* labels, as the paper chose σ, then retrain on everything:
`python -m slnlab.tune sln.sigma=0.1,0.2,0.5,1 noise=asym seed=0,1,2`.

A command of its own and no Hydra sweeper: a sweeper sees one kind of run and one number per run, while a study has two
kinds (trials that cannot read the test set, final runs that may) and a choice between them. What several values of a
key mean is Hydra's, and each run is the one that `slnlab.train` does with the same overrides, in the same directory. So
the directories are the store of a grid, the same command goes on where it stopped, two people can work on one study,
and with `launcher=` the sweeps of trials and of final runs are `slnlab.train -m`'s.
"""

from __future__ import annotations

import argparse
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
from slnlab.files import replacing
from slnlab.result import Result, read_metrics
from slnlab.run_directory import RunDirectory
from slnlab.study import Final, Job, Plan, Study, Trial, Values, typed

if TYPE_CHECKING:
    from slnlab.callbacks.run_record import Watch

log = logging.getLogger(__name__)

DIVERGED = re.compile(r"the loss is (nan|-?inf)")
"""What a run has written down whose loss diverged."""


def tune(plan: Plan, leave_out_failed: bool = False) -> Study:
    """Do the trials that are missing, choose, and do the final runs; everything is in `plan.directory`.

    Args:
        plan: what is asked.
        leave_out_failed: choose also if trials failed. Values that make the loss diverge are out in any case.

    Raises:
        SlnlabError: trials failed, so that the choice would depend on what is no hyper-parameter; or a final run did.
        Stopped: a signal came; the same call goes on.
    """
    study = Study.begin(plan)
    if plan.launcher:
        sweep(plan, plan.trial_sweep())
    if plan.trials is None:
        _search_grid(plan, study)
    else:
        from slnlab.optuna_search import search  # needs the extra

        search(plan, study, run_trial)
    if study.failed and not leave_out_failed:
        study.save(plan.directory)
        failures = "\n  ".join(f"{typed(trial.values)}: {trial.message}" for trial in study.failed)
        raise SlnlabError(
            f"{len(study.failed)} of {len(study.trials)} trials failed, so nothing is chosen:\n  {failures}\n"
            "The same command tries them again; --leave-out-failed chooses among the others"
        )
    study.choose()
    assert study.chosen is not None
    study.save(plan.directory)  # before anything has seen the test set
    log.info("chosen: %s", typed(study.chosen))
    for remark in study.remarks:
        log.info("%s", remark)
    if plan.launcher:
        sweep(plan, plan.final_sweep(study.chosen))
    for seed in plan.final_seeds:
        job = plan.final(study.chosen, seed)
        log.info("final run: %s", job)
        result = _swept(job) if plan.launcher else run(job, wait=True)
        accuracies = {name: e.test_accuracy.last for name, e in result.evaluators.items() if e.test_accuracy}
        study.finals.append(Final(seed=seed, directory=str(job.directory), test_accuracy=accuracies))
        study.save(plan.directory)
    return study


def run(job: Job, wait: bool = False, watch: Watch | None = None) -> Result:
    """Do one run of a study, or take its result."""
    from slnlab.train import train

    return train(job.config, job.directory, job.overrides, wait, watch)


def sweep(plan: Plan, overrides: Sequence[str]) -> None:
    """Have the launcher do what is missing of some runs; what became of each, its directory says.

    Raises:
        Stopped: a signal came; the launcher was told.
    """
    from slnlab.stopping import obeying_signals, stop_if_told

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


def _swept(job: Job) -> Result:
    """What a launcher's run has left.

    Raises:
        Diverged: its loss is no longer finite.
        SlnlabError: it is not finished for another reason.
    """
    directory = RunDirectory(job.directory)
    if directory.finished:
        return Result.load(directory.result)
    failure = job.directory / "failure.txt"
    why = failure.read_text().strip() if failure.exists() else "the launcher has left no result; see its log"
    if DIVERGED.search(why):
        raise Diverged(why)
    raise SlnlabError(f"{job.directory}: {why}")


def _search_grid(plan: Plan, study: Study) -> None:
    """Every combination. What another process is doing is waited for after everything else is done."""
    grid = list(plan.grid())
    trials: dict[int, Trial] = {}
    later: list[int] = []
    for wait, numbers in ((False, list(range(len(grid)))), (True, later)):
        for number in numbers:
            log.info("trial %d of %d: %s", number + 1, len(grid), typed(grid[number]))
            try:
                trials[number] = run_trial(plan, grid[number], wait=wait)
            except Busy as error:
                log.info("%s; later", error)
                later.append(number)
                continue
            study.trials = [trials[i] for i in sorted(trials)]
            study.save(plan.directory)


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
    jobs = [plan.trial(values, seed) for seed in plan.trial_seeds]
    trial = Trial(values=dict(values), state="finished", accuracies=[], directories=[str(j.directory) for j in jobs])
    key = f"val/{plan.evaluator}/accuracy"
    for job in jobs:
        watched = _Watched(watch, key, plan.last) if watch and job is jobs[0] else None
        try:
            if plan.launcher:
                _swept(job)
            else:
                run(job, wait, watched)
            trial.accuracies.append(_accuracy(job, key, plan.last))
            if watched and not watched.seen:  # finished before, and not pruned then
                with suppress(Pruned):
                    for row in read_metrics(RunDirectory(job.directory).metrics):
                        watched(row)
        except Busy:
            raise
        except Pruned as error:
            with replacing(RunDirectory(job.directory).pruned) as file:
                file.write((json.dumps({"study": str(plan.directory), "why": str(error)}) + "\n").encode())
            log.info("pruned: %s", error)
            return trial.model_copy(update={"state": "pruned", "message": str(error)})
        except Diverged as error:
            return trial.model_copy(update={"state": "diverged", "message": str(error)})
        except Exception as error:  # one trial's trouble must not cost a night's others
            expected = isinstance(error, SlnlabError)
            log.error("the trial %s failed: %s", job, error, exc_info=not expected)
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


def _accuracy(job: Job, key: str, last: int) -> float:
    rows = read_metrics(RunDirectory(job.directory).metrics)
    if not rows or key not in rows[-1]:
        raise DataError(f"{job.directory}: metrics.csv has no {key}")
    return fmean(row[key] for row in rows[-last:])


def _dry_run(plan: Plan) -> str:
    """What the study would do."""
    lines = []
    if plan.trials is None:
        for values in plan.grid():
            for seed in plan.trial_seeds:
                job = plan.trial(values, seed)
                state = "finished" if RunDirectory(job.directory).finished else "missing"
                lines.append(f"trial     {job}  {state}  {job.directory}")
        command = shlex.join(["-m", "slnlab.train", "-m", *plan.launcher, *plan.trial_sweep()])
        lines.append(f"the trials alone: python {command}")
    else:
        space = " ".join(override.input_line or "" for override in plan.space.values())
        lines.append(f"trials    {plan.trials}, chosen by Optuna: {space}")
    lines.append(f"final     with what is chosen, data.noisy_val=0, seeds {', '.join(map(str, plan.final_seeds))}")
    lines.append(f"study     {plan.directory}")
    return "\n".join(lines)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _count(text: str) -> int:
    if (value := int(text)) < 1:
        raise ValueError(text)
    return value


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m slnlab.tune",
        description="Choose hyper-parameters on held-out noisy labels, then retrain on all samples and test.",
        epilog="The same command goes on where it stopped. Exit codes: as of slnlab.train.",
    )
    parser.add_argument(
        "overrides",
        nargs="+",
        metavar="KEY=VALUE[,VALUE...]",
        help="as for slnlab.train; what has several values is searched over, seed=0,1,2 are the final runs'",
    )
    parser.add_argument("--evaluator", help="whose accuracy chooses: network, momentum, ...; default: the method's own")
    parser.add_argument("--last", type=_count, default=1, metavar="K", help="mean accuracy of the last K epochs (1)")
    parser.add_argument(
        "--trial-seeds", type=_numbers, metavar="0,1", help="seeds of the trials; default: the first of seed="
    )
    parser.add_argument(
        "--trials",
        type=_count,
        metavar="N",
        help="N trials chosen by Optuna, also from intervals: optimizer.lr='tag(log,interval(0.01,1))'",
    )
    parser.add_argument("--no-pruning", action="store_true", help="with --trials: end no trial early")
    parser.add_argument("--leave-out-failed", action="store_true", help="choose even if some trials failed")
    parser.add_argument("--dry-run", action="store_true", help="check everything, say what would run, run nothing")
    return parser.parse_intermixed_args(arguments)  # options may stand between keys


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    asked = _arguments(arguments)
    logging.basicConfig(level=logging.INFO, format="[%(asctime)s] %(message)s", stream=sys.stderr)
    try:
        plan = Plan(
            asked.overrides,
            evaluator=asked.evaluator,
            last=asked.last,
            trial_seeds=asked.trial_seeds,
            trials=asked.trials,
            prune=not asked.no_pruning,
        )
        if plan.trials is not None:
            from slnlab import optuna_search

            optuna_search.check()
        if not plan.noisy_val_given:
            log.info("data.noisy_val is not given: a tenth of the training samples, %d, is held out", plan.noisy_val)
        log.info("%s chooses (%s)", plan.evaluator, plan.label)
        if asked.dry_run:
            print(_dry_run(plan))
            return
        study = tune(plan, asked.leave_out_failed)
    except SlnlabError as error:
        sys.exit(f"error: {error}")
    print(study.page())
    print(f"\nstudy: {plan.directory / 'study.md'}")


if __name__ == "__main__":
    main()
