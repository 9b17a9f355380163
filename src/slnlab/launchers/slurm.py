"""The SLURM launcher: one job for each run, in job arrays as large as the cluster allows, through submitit.

A job that is preempted, requeued or near its time limit stops after its optimiser step. It resumes with the next one,
with the same bits. There are three ways back into the queue:

- SLURM requeues after preemption (PreemptMode=REQUEUE), `scontrol requeue` and the loss of a node.
- The job requeues itself on SIGUSR1 or SIGUSR2; SLURM sends the latter `signal_delay_s` before the time limit. If the
  job saved nothing since its start, the time limit is too short and the run fails.
- So it does on SIGTERM in the GraceTime of a preemption. Otherwise SIGTERM means that a user cancels the job.
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
from slnlab.launchers.planned import Outcome, Planned, execute
from slnlab.processes.stopping import Stopped, obeying_signals, stop_if_requested
from slnlab.schema.kinds import Count, Positive

log = logging.getLogger(__name__)

TOO_SHORT = "nothing could be saved within the time limit; raise timeout_min"

LIMITS = (
    "where the cluster limits the size of an array (MaxArraySize) or a user's jobs (MaxSubmitJobs), "
    "hydra.launcher.array_size=N submits arrays of N runs"
)

REQUEUE_SIGNALS = {getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name)}
"""Signals on which a job puts itself back into the queue."""

UNFINISHED = {"PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SUSPENDED"}
UNFINISHED |= {"RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "SPECIAL_EXIT"}
"""States of a job that has not ended for good."""


def launch(
    plan: Sequence[Planned],
    folder: Path,
    *,
    poll_s: Positive = 10.0,
    wait: bool = True,
    array_size: Count | None = None,
    array_parallelism: Count | None = None,
    **resources: Any,
) -> list[Outcome]:
    """Submit the runs as job arrays, and wait until all have ended.

    Args:
        plan: the runs. All get the same resources.
        folder: folder of the sweep; all nodes must see it. SLURM's logs go to its subfolder `.slurm`.
        poll_s: seconds between two questions to `squeue`. Unlike submitit's own watcher, it needs no accounting
            (`sacct`).
        wait: False returns after the submission.
        array_size: most runs of an array; None uses the limit of the cluster.
        array_parallelism: most runs at the same time, over all arrays; None: 256.
        resources: parameters of submitit's SLURM executor: `timeout_min`, `cpus_per_task`, `gpus_per_node`,
            `tasks_per_node`, `mem_gb`, `nodes`, `partition`, `account`, `qos`, `constraint`, `signal_delay_s`, `setup`,
            `additional_parameters`, … None leaves a parameter to SLURM.

    Returns:
        The outcomes in the order of `plan`. If SLURM refuses a later array, its runs have failed.

    Raises:
        ConfigError: there is no such resource.
        SlnlabError: the extra is not installed, this is no SLURM cluster, or SLURM refuses the first array.
        Stopped: a signal ended the wait; the jobs go on.
    """
    try:
        import submitit
    except ModuleNotFoundError:
        raise SlnlabError("launcher=slurm needs the extra: pip install 'slnlab[slurm]'") from None
    logs = folder / ".slurm"
    logs.mkdir(parents=True, exist_ok=True)
    try:
        # submitit handles signals until the run begins. A time limit that ends before that is always too short.
        executor = submitit.SlurmExecutor(folder=logs.resolve() / "%j", max_num_timeout=0)
        executor.update_parameters(**_checked({**resources, "array_parallelism": array_parallelism}))
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
    """Submit the runs as equal arrays of at most `array_size`, with `array_parallelism` jobs at once in all arrays.

    Returns:
        The jobs of the first runs, and SLURM's reason to refuse the others; empty if it takes all.

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
            submitted = executor.map_array(SlurmJob(), list(runs))
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
    """The most runs of an array on this cluster; None if SLURM does not state it."""
    try:
        command = ["scontrol", "show", "config"]
        asked = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"^\s*MaxArraySize\s*=\s*(\d+)", asked.stdout, re.MULTILINE)
    return max(1, int(found[1])) if found else None  # 0 forbids arrays, and a single job is none


def _checked(resources: Mapping[str, Any]) -> dict[str, Any]:
    """The resources as submitit's parameters.

    Raises:
        ConfigError: there is no such parameter.
    """
    import submitit

    names = submitit.SlurmExecutor._equivalence_dict()
    given = {key: value for key, value in resources.items() if value is not None}
    parameters: dict[str, Any] = {str(names.get(key, key)): value for key, value in given.items()}
    additional = dict(parameters.get("additional_parameters") or {})
    if "no-requeue" not in additional:  # some clusters requeue only jobs that ask for it
        additional = {"requeue": True, **additional}
    if "dependency" in additional:  # `_submit` adds the dependency on another array
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
    """Wait for the outcomes of the jobs.

    Args:
        jobs: submitit's jobs.
        poll_s: seconds between two questions to SLURM.
        patience: seconds for a file system to show the result of an ended job.
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
                if state in UNFINISHED:
                    gone.pop(number, None)
                elif asked - gone.setdefault(number, asked) >= (patience if state == "COMPLETED" else 3 * poll_s):
                    ended = f"its job ended without a result (SLURM says {state or 'nothing of it any more'})"
                    outcomes[number] = Outcome("failed", ended, str(jobs[number].paths.stdout))
                else:
                    with suppress(OSError):  # a change of mode makes NFS read the directory again
                        folder = jobs[number].paths.folder
                        folder.chmod(folder.stat().st_mode)
        time.sleep(min(poll_s, 1.0))
    return [outcomes[number] for number in range(len(jobs))]


def _result(job: Any) -> Outcome:
    """The outcome that the job's first task stored. `job.result()` would ask `sacct` for the other tasks."""
    from submitit.core.utils import pickle_load

    kind, stored = pickle_load(job.paths.result_pickle)
    if kind == "success" and isinstance(stored, Outcome):
        return stored
    trace = str(stored).strip()
    # Not only in the last line: submitit raises this wherever the signal finds it, and a library may add to it.
    too_short = "timed-out too many times" in trace
    return Outcome("failed", TOO_SHORT if too_short else trace.splitlines()[-1], str(job.paths.stdout))


def _states(arrays: Sequence[str]) -> dict[str, str] | None:
    """Job id → state for the jobs that SLURM still knows; None if SLURM does not answer."""
    command = [
        "squeue",
        "--noheader",
        "--array",
        "--states=all",
        "--format=%i %T",
        f"--jobs={','.join(dict.fromkeys(arrays))}",
    ]
    try:
        asked = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if asked.returncode and "Invalid job id" not in asked.stderr:  # this error: all jobs are long gone
        return None
    return dict(line.split(maxsplit=1) for line in asked.stdout.splitlines())


# In the job


def _preempted(job: str) -> bool:
    """True if SLURM is about to end this running job for another one, and waits for the partition's GraceTime.

    The job has got SIGTERM alone, as from a user who cancels it, and nothing puts it back unless it does.
    """
    command = ["scontrol", "show", "job", job]
    try:
        asked = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    at = re.search(r"PreemptTime=(\d\S*)", asked.stdout)
    return at is not None and "JobState=RUNNING" in asked.stdout


class SlurmJob:
    """The function that submitit calls on the node."""

    def __call__(self, planned: Planned) -> Outcome:
        import submitit

        from slnlab.record.run_directory import RunDirectory, got_further

        first = os.environ.get("SLURM_PROCID", "0") == "0"
        environment = submitit.JobEnvironment()
        try:
            with obeying_signals():  # first of all: submitit's handler raises in the middle of whatever runs
                if first:
                    planned.directory.mkdir(parents=True, exist_ok=True)
                    line = f"job {environment.job_id} on {environment.hostname}, log {environment.paths.stdout}\n"
                    with (planned.directory / "slurm.txt").open("a", encoding="utf-8") as file:
                        file.write(line)
                again = int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0
                # A start of this job that got so far has removed the former run; the job must not remove its own.
                begun = again and RunDirectory(planned.directory).begun_by(os.environ["SLURM_JOB_ID"])
                force = planned.config.force and not begun
                planned = planned.changed({"trainer.progress": False, "force": force})
                # The lock of a lost node may last a while.
                return execute(planned, wait=again)
        except Stopped as stopped:
            if stopped.signal not in REQUEUE_SIGNALS and not _preempted(environment.job_id):
                raise
            if not first:  # a failed task would end the job before the first task requeues it
                sys.exit(0)
            if not (got_further() or stopped.waiting):
                return Outcome("failed", TOO_SHORT)
            # A requeue ends this job too, so nothing may write a result after it. This id contains the place in the
            # array; SLURM_JOB_ID may be the array's own id and would requeue all its jobs.
            requeue = ["scontrol", "requeue", environment.job_id]
            try:
                asked = subprocess.run(
                    requeue, capture_output=True, encoding="utf-8", errors="replace", timeout=60, check=False
                )
            except subprocess.TimeoutExpired:  # slurmctld may yet do it
                sys.exit(int(stopped.code or 0))
            if asked.returncode:
                why = asked.stderr.strip()
                return Outcome("failed", f"SLURM did not put the job back ({why}); the same command goes on")
            sys.exit(int(stopped.code or 0))

    def checkpoint(self, planned: Planned) -> Any:
        """The same job again, for submitit, after a preemption before the run begins."""
        import submitit

        return submitit.helpers.DelayedSubmission(self, planned)
