"""On a SLURM cluster: a job per run, in job arrays as large as the cluster allows, through submitit.

A job that is preempted, requeued, or near its time limit ends after its optimiser step and goes on with the next, with
the same bits. Who puts it back into the queue:

- SLURM itself, for preemption (PreemptMode=REQUEUE), `scontrol requeue` and a node that is lost;
- the job, when it gets SIGUSR1 or SIGUSR2: SLURM sends the latter `signal_delay_s` before the time limit. Unless
  nothing was saved since it began: then the time limit is too short, and the run fails and says so.

SIGTERM alone means that somebody cancels the job.
"""

from __future__ import annotations

import logging
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from slnlab.errors import ConfigError, SlnlabError
from slnlab.launchers.planned import Outcome, Planned, do
from slnlab.processes.stopping import Stopped, obeying_signals, stop_if_requested

log = logging.getLogger(__name__)

TOO_SHORT = "nothing could be saved within the time limit; raise timeout_min"

LIMITS = (
    "where the cluster limits the size of an array (MaxArraySize) or a user's jobs (MaxSubmitJobs), "
    "hydra.launcher.array_size=N submits arrays of N runs"
)

AGAIN = {getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name)}
"""Signals after which a job puts itself back into the queue."""

WAITING = {"PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SUSPENDED"}
WAITING |= {"RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "SPECIAL_EXIT"}
"""States of a job that has more to come."""


def launch(
    plan: Sequence[Planned],
    *,
    folder: Path,
    poll_s: float = 10.0,
    wait: bool = True,
    array_size: int | None = None,
    **resources: Any,
) -> list[Outcome]:
    """Submit the runs as job arrays, and wait until all have ended.

    Args:
        plan: what to do. All get the same resources.
        folder: of the sweep, which all nodes must see; SLURM's logs go to `.slurm` in it.
        poll_s: seconds between two questions to `squeue`. It needs no accounting (`sacct`), which submitit's own
            watcher does.
        wait: False: return when they are submitted.
        array_size: runs in an array at most; None: as many as the cluster allows.
        resources: what submitit's SLURM executor takes: `timeout_min`, `cpus_per_task`, `gpus_per_node`,
            `tasks_per_node`, `mem_gb`, `nodes`, `partition`, `account`, `qos`, `constraint`, `array_parallelism`,
            `signal_delay_s`, `setup`, `additional_parameters`, … None: SLURM's default.

    Returns:
        What became of each, in the order of `plan`. Runs whose array SLURM refuses, after it took others, have failed.

    Raises:
        ConfigError: there is no such resource, or no array of that size.
        SlnlabError: the extra is not installed, this is no SLURM cluster, or SLURM refuses the first array.
        Stopped: told to stop waiting; the jobs go on.
    """
    try:
        import submitit
    except ModuleNotFoundError:
        raise SlnlabError("launcher=slurm needs the extra: pip install 'slnlab[slurm]'") from None
    for key, runs in {"array_size": array_size, "array_parallelism": resources.get("array_parallelism")}.items():
        if runs is not None and (not isinstance(runs, int) or isinstance(runs, bool) or runs < 1):
            raise ConfigError(f"hydra.launcher.{key}: {runs}; null, or a number of runs from 1 on")
    logs = folder / ".slurm"
    logs.mkdir(parents=True, exist_ok=True)
    try:
        # submitit answers signals until the run begins; a time limit that ends before that is never enough.
        executor = submitit.SlurmExecutor(folder=logs.resolve() / "%j", max_num_timeout=0)
        executor.update_parameters(**_checked(resources))
    except (RuntimeError, ValueError) as error:
        raise SlnlabError(f"launcher=slurm: {error}") from error
    jobs, refused = _submit(executor, plan, array_size or _max_array_size() or len(plan))
    left_out = [Outcome("failed", f"not submitted: {refused}") for _ in plan[len(jobs) :]]
    log.info("submitted %d of %d runs; SLURM's logs are in %s", len(jobs), len(plan), logs)
    if not wait:
        return [Outcome("elsewhere", f"job {job.job_id}") for job in jobs] + left_out
    with obeying_signals():
        return _wait(jobs, poll_s) + left_out


def _submit(executor: Any, plan: Sequence[Planned], array_size: int) -> tuple[list[Any], str]:
    """Submit the runs as equal arrays of at most `array_size`, of which no more than `array_parallelism` runs work at a
    time together.

    Returns:
        The jobs of the first runs, and why SLURM refuses to take the others, if it does.

    Raises:
        SlnlabError: SLURM refuses the first array.
    """
    from submitit.core.utils import FailedJobError

    arrays = math.ceil(len(plan) / array_size)
    parallelism = executor.parameters.get("array_parallelism", 256)
    at_once = min(arrays, parallelism)
    dependency = executor.parameters.get("dependency")
    jobs: list[Any] = []
    numbers: list[str] = []
    for array in range(arrays):
        place = array % at_once
        share = parallelism * (place + 1) // at_once - parallelism * place // at_once
        after = [f"afterany:{numbers[array - at_once]}"] if array >= at_once else []
        after += [dependency] if dependency else []
        runs = plan[len(plan) * array // arrays : len(plan) * (array + 1) // arrays]
        try:
            executor.update_parameters(array_parallelism=share, dependency=",".join(after) or None)
            submitted = executor.map_array(Job(), list(runs))
        except (RuntimeError, ValueError, FailedJobError, FileNotFoundError) as error:
            why = f"launcher=slurm: {error}; {LIMITS}" if "sbatch" in str(error) else f"launcher=slurm: {error}"
            if not jobs:
                raise SlnlabError(why) from error
            log.error("%s", why)
            return jobs, why
        numbers.append(_array(submitted[0]))
        jobs += submitted
        log.info("submitted %d runs as job %s", len(runs), numbers[-1])
    return jobs, ""


def _array(job: Any) -> str:
    return str(job.job_id).split("_")[0]


def _max_array_size() -> int | None:
    """Runs that an array of this cluster can have; None: SLURM does not say."""
    try:
        command = ["scontrol", "show", "config"]
        said = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=60, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"^\s*MaxArraySize\s*=\s*(\d+)", said, re.MULTILINE)
    return max(1, int(found[1])) if found else None  # 0: there are no arrays, and a job alone is none


def _checked(resources: Mapping[str, Any]) -> dict[str, Any]:
    """submitit's parameters.

    Raises:
        ConfigError: there is no such parameter.
    """
    import submitit

    names = submitit.SlurmExecutor._equivalence_dict()
    given = {key: value for key, value in resources.items() if value is not None}
    parameters: dict[str, Any] = {str(names.get(key, key)): value for key, value in given.items()}
    additional = dict(parameters.get("additional_parameters") or {})
    if "no-requeue" not in additional:  # some sites' jobs are not put back unless they ask for it
        additional = {"requeue": True, **additional}
    if "dependency" in additional:  # to which an array that waits for another one adds
        parameters["dependency"] = additional.pop("dependency")
    parameters["additional_parameters"] = additional
    if "mem" in parameters:
        parameters["mem"] = f"{parameters['mem']}GB"
    unknown = sorted(parameters.keys() - submitit.SlurmExecutor._valid_parameters())
    if unknown:
        raise ConfigError(
            f"hydra.launcher.{unknown[0]}: there is no such parameter; the parameters are "
            f"{', '.join(sorted(submitit.SlurmExecutor._valid_parameters()))}"
        )
    return {"job_name": "slnlab", "stderr_to_stdout": True, **parameters}


def _wait(jobs: Sequence[Any], poll_s: float, patience: float = 90.0) -> list[Outcome]:
    """What became of the jobs.

    Args:
        poll_s: seconds between two questions to SLURM.
        patience: seconds that a file system may take to show the result of a job that is over.
    """
    outcomes: dict[int, Outcome] = {}
    gone: dict[int, float] = {}
    asked = 0.0
    while len(outcomes) < len(jobs):
        stop_if_requested()
        for number, job in enumerate(jobs):
            if number not in outcomes and job.paths.result_pickle.exists():
                outcomes[number] = _result(job)
        left = [number for number in range(len(jobs)) if number not in outcomes]
        if left and time.monotonic() - asked >= poll_s:
            asked = time.monotonic()
            states = _states([_array(job) for job in jobs])
            for number in left if states is not None else ():
                state = states.get(jobs[number].job_id)  # type: ignore[union-attr]
                if state in WAITING:
                    gone.pop(number, None)
                elif asked - gone.setdefault(number, asked) >= (patience if state == "COMPLETED" else 3 * poll_s):
                    ended = f"its job ended without a result (SLURM says {state or 'nothing of it any more'})"
                    outcomes[number] = Outcome("failed", ended, str(jobs[number].paths.stdout))
                else:
                    with suppress(OSError):  # after which NFS looks at what is in a directory
                        folder = jobs[number].paths.folder
                        folder.chmod(folder.stat().st_mode)
        time.sleep(min(poll_s, 1.0))
    return [outcomes[number] for number in range(len(jobs))]


def _result(job: Any) -> Outcome:
    """What the job's first task has left. `job.result()` would ask `sacct` for the other tasks."""
    from submitit.core.utils import pickle_load

    kind, left = pickle_load(job.paths.result_pickle)
    if kind == "success" and isinstance(left, Outcome):
        return left
    said = str(left).strip().splitlines()[-1]
    return Outcome("failed", TOO_SHORT if "timed-out too many times" in said else said, str(job.paths.stdout))


def _states(arrays: Sequence[str]) -> dict[str, str] | None:
    """State of each job of the arrays that SLURM still knows; None: SLURM does not answer now."""
    command = [
        "squeue",
        "--noheader",
        "--array",
        "--states=all",
        "--format=%i %T",
        f"--jobs={','.join(dict.fromkeys(arrays))}",
    ]
    try:
        said = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if said.returncode and "Invalid job id" not in said.stderr:  # which is: all of them are long gone
        return None
    return dict(line.split(maxsplit=1) for line in said.stdout.splitlines())


# In the job


class Job:
    """What submitit runs on the node."""

    def __call__(self, planned: Planned) -> Outcome:
        import submitit

        from slnlab.record.run_directory import got_further

        first = os.environ.get("SLURM_PROCID", "0") == "0"
        here = submitit.JobEnvironment()
        if first:
            planned.directory.mkdir(parents=True, exist_ok=True)
            with (planned.directory / "slurm.txt").open("a", encoding="utf-8") as file:
                print(f"job {here.job_id} on {here.hostname}, log {here.paths.stdout}", file=file)
        again = int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0
        # force=true has removed a former run when the job began for the first time.
        planned = planned.changed({"trainer.progress": False, "force": planned.config.force and not again})
        try:
            with obeying_signals():  # from here on, as importing what training needs takes its time too
                # The lock of a node that was lost may last a while.
                return do(planned, wait=again)
        except Stopped as stopped:
            if stopped.signal not in AGAIN:
                raise
            if not first:  # one that fails takes the job down before the first has put it back
                sys.exit(0)
            if not (got_further() or stopped.waiting):
                return Outcome("failed", TOO_SHORT)
            # Ends this job too; what is left of it must not write a result. By its place in the array: SLURM_JOB_ID
            # of one of them is the array's own, which would requeue all.
            requeue = ["scontrol", "requeue", here.job_id]
            said = subprocess.run(
                requeue, capture_output=True, encoding="utf-8", errors="replace", timeout=60, check=False
            )
            if said.returncode:
                why = said.stderr.strip()
                return Outcome("failed", f"SLURM did not put the job back ({why}); the same command goes on")
            sys.exit(int(stopped.code or 0))

    def checkpoint(self, planned: Planned) -> Any:
        """For a preemption before the run begins: the same again."""
        import submitit

        return submitit.helpers.DelayedSubmission(self, planned)
