"""Jobs of launcher=slurm at their time limit and at submission, without a cluster."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock

from slnlab.config import compose
from slnlab.errors import ConfigError, SlnlabError
from slnlab.launchers import slurm
from slnlab.launchers.planned import Outcome, Planned
from slnlab.processes.starting import joined
from slnlab.processes.stopping import Stopped
from slnlab.record import run_directory
from slnlab.record.run_directory import RunDirectory
from slnlab.training.settling import settle

PUT_BACK = (128 + signal.SIGUSR2, [["scontrol", "requeue", "7_0"]])

submitit = pytest.importorskip("submitit")

Submit = Callable[..., tuple[list[Outcome], list[str]]]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[Outcome | int, list[list[str]]]]:
    """Do a job in which training does this until SIGUSR2 comes; its outcome or exit code, and what SLURM was asked."""

    def job(training: Callable[[], None], refuses: str = "") -> tuple[Outcome | int, list[list[str]]]:
        asked: list[list[str]] = []

        def execute(planned: Planned, wait: bool) -> Outcome:
            with RunDirectory(planned.directory).locked():
                training()
                raise Stopped(signal.SIGUSR2)

        def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
            asked.append(command)
            return subprocess.CompletedProcess(command, int(bool(refuses)), "", refuses)

        here = SimpleNamespace(job_id="7_0", hostname="node", paths=SimpleNamespace(stdout="log"))
        monkeypatch.setattr(submitit, "JobEnvironment", lambda: here)
        monkeypatch.setattr(slurm, "execute", execute)
        monkeypatch.setattr(slurm.subprocess, "run", run)
        monkeypatch.setattr(run_directory, "_begun", {})
        try:
            return slurm.SlurmJob()(Planned(settle(compose([])), tmp_path / "run", (), "a run")), asked
        except SystemExit as end:
            return int(end.code or 0), asked

    return job


def save(run: RunDirectory) -> None:
    run.checkpoint.parent.mkdir(parents=True, exist_ok=True)
    run.checkpoint.write_text("an epoch")


def test_a_job_with_a_finished_epoch_is_requeued(told: Callable[..., object], tmp_path: Path) -> None:
    assert told(lambda: save(RunDirectory(tmp_path / "run"))) == PUT_BACK


def test_a_job_saved_within_its_first_epoch_is_requeued(told: Callable[..., object], tmp_path: Path) -> None:
    def some_steps() -> None:
        run = RunDirectory(tmp_path / "run")
        save(run)
        run.checkpoint.replace(run.checkpoint.with_name("within-0.ckpt"))

    assert told(some_steps) == PUT_BACK


def test_a_job_with_epochs_of_its_source_run_is_requeued(told: Callable[..., object], tmp_path: Path) -> None:
    def source() -> None:
        with (other := RunDirectory(tmp_path / "sln")).locked():
            save(other)

    assert told(source) == PUT_BACK


def test_a_job_waiting_for_its_source_run_is_requeued(told: Callable[..., object], tmp_path: Path) -> None:
    def waiting() -> None:
        (tmp_path / "sln").mkdir()
        with FileLock(tmp_path / "sln" / ".lock"), stopping_at(2), RunDirectory(tmp_path / "sln").locked(wait=True):
            pass

    assert told(waiting) == PUT_BACK


def test_a_job_signalled_before_its_source_run_is_not_requeued(told: Callable[..., object], tmp_path: Path) -> None:
    def beginning() -> None:
        with stopping_at(1), RunDirectory(tmp_path / "sln").locked(wait=True):
            pass

    assert told(beginning) == (Outcome("failed", slurm.TOO_SHORT), [])


@pytest.mark.parametrize(
    ("shown", "preempted"),
    [
        ("JobState=RUNNING PreemptTime=2026-11-29T10:00:00", True),
        ("JobState=RUNNING PreemptTime=None", False),  # a user cancels it
        ("JobState=PENDING PreemptTime=2026-11-29T10:00:00", False),  # SLURM has put it back already
        ("", False),
    ],
)
def test_a_job_in_the_grace_time_of_a_preemption_is_requeued(
    shown: str, preempted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command == ["scontrol", "show", "job", "7_0"]
        return subprocess.CompletedProcess(command, 0, shown, "")

    monkeypatch.setattr(slurm.subprocess, "run", run)
    assert slurm._preempted("7_0") == preempted


def test_a_slow_requeue_leaves_no_result(
    told: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """submitit would take an error as final, although SLURM may yet put the job back."""

    def slow() -> None:
        save(RunDirectory(tmp_path / "run"))

        def run(command: list[str], **_: object) -> None:
            raise subprocess.TimeoutExpired(command, 60)

        monkeypatch.setattr(slurm.subprocess, "run", run)

    assert told(slow) == (128 + signal.SIGUSR2, [])


def test_force_removes_the_former_run_even_if_the_first_start_did_not_get_so_far(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A node was lost while the first start read the data; a later start must not remove what this job has trained."""
    spec, run, forced = settle(compose(["force=true"])), RunDirectory(tmp_path / "run"), list[bool]()

    def execute(planned: Planned, wait: bool) -> Outcome:
        forced.append(planned.config.force)
        return Outcome("done")

    def start(restarts: int) -> None:
        monkeypatch.setenv("SLURM_RESTART_COUNT", str(restarts))
        slurm.SlurmJob()(Planned(spec, run.path, (), "a run"))

    here = SimpleNamespace(job_id="7_0", hostname="node", paths=SimpleNamespace(stdout="log"))
    monkeypatch.setattr(submitit, "JobEnvironment", lambda: here)
    monkeypatch.setattr(slurm, "execute", execute)
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    run.path.mkdir()
    run.describe(spec, [])  # the former run, by another job
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    start(0)
    start(1)
    run.describe(spec, [])
    start(2)
    assert forced == [True, True, False]


@contextmanager
def stopping_at(call: int) -> Iterator[None]:
    """SIGUSR2 is noticed when it is looked for the so-many-th time."""
    looked = count(1)

    def look() -> None:
        if next(looked) == call:
            raise Stopped(signal.SIGUSR2)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_directory, "stop_if_requested", look)
        yield


def test_a_job_without_progress_is_not_requeued(told: Callable[..., object], tmp_path: Path) -> None:
    save(RunDirectory(tmp_path / "run"))  # by the job before
    assert told(lambda: None) == (Outcome("failed", slurm.TOO_SHORT), [])


def test_the_reason_of_a_refused_requeue_is_reported(told: Callable[..., object], tmp_path: Path) -> None:
    outcome, _ = told(lambda: save(RunDirectory(tmp_path / "run")), refuses="Requested operation is disabled\n")  # type: ignore[misc]
    assert isinstance(outcome, Outcome)
    assert outcome.state == "failed"
    assert "(Requested operation is disabled)" in outcome.message


def test_jobs_are_submitted_as_requeueable() -> None:
    """Sites with JobRequeue=0 do it only then."""
    assert slurm._checked({})["additional_parameters"] == {"requeue": True}
    assert slurm._checked({"additional_parameters": {"exclusive": "user"}})["additional_parameters"] == {
        "requeue": True,
        "exclusive": "user",
    }
    assert slurm._checked({"additional_parameters": {"no-requeue": True}})["additional_parameters"] == {
        "no-requeue": True
    }


def test_a_shell_in_an_allocation_runs_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """salloc --ntasks-per-node=2, and a command typed there."""
    for name, value in {"SLURM_NTASKS": 2, "SLURM_STEP_NUM_TASKS": 1, "SLURM_STEP_ID": 4294967290}.items():
        monkeypatch.setenv(name, str(value))
    with joined(devices=1, num_nodes=1, on_gpus=False):
        pass


def test_tasks_without_tasks_per_node_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """srun -n 2: Lightning cannot tell which process is where."""
    for name, value in {"SLURM_NTASKS": 2, "SLURM_STEP_NUM_TASKS": 2, "SLURM_STEP_ID": 0}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE", raising=False)
    refused = pytest.raises(ConfigError, match=r"2 processes: use --ntasks-per-node, not --ntasks")
    with refused, joined(devices=2, num_nodes=1, on_gpus=False):
        pass


@pytest.fixture
def sbatch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Submit:
    """A cluster whose programs are stand-ins; submit so many runs to it, and read what sbatch was asked for."""

    def submit(
        runs: int, config: str = "MaxArraySize            = 10", refuses: int = 0, **options: object
    ) -> tuple[list[Outcome], list[str]]:
        programs, asked = tmp_path / "bin", tmp_path / "asked"
        programs.mkdir(exist_ok=True)
        asked.unlink(missing_ok=True)
        scripts = {
            "sbatch": f"""
n=$(grep -c ^array {asked} 2>/dev/null); n=$((n + 1))
if [ $n = {refuses} ]; then echo 'sbatch: error: QOSMaxSubmitJobPerUserLimit' >&2; exit 1; fi
echo array $(grep -oE -- '--(array|dependency)=[^ ]*' "$1") >> {asked}
echo "Submitted batch job $((100 + n))"
""",
            "srun": "",
            "scontrol": f"echo '{config}'" if config else "exit 1",
        }
        for name, script in scripts.items():
            (programs / name).write_text(f"#!/bin/bash\n{script}\n")
            (programs / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
        spec = settle(compose([]))
        plan = [Planned(spec, tmp_path / str(number), (), str(number)) for number in range(runs)]
        outcomes = slurm.launch(plan, tmp_path, wait=False, **options)  # type: ignore[arg-type]
        return outcomes, [" ".join(line.split()[1:]) for line in asked.read_text().splitlines()]

    return submit


@pytest.mark.parametrize(
    ("runs", "config", "options", "asked"),
    [
        (10, "MaxArraySize            = 10", {}, ["--array=0-9%10"]),
        (12, "MaxArraySize            = 10", {}, ["--array=0-5%6"] * 2),
        (21, "MaxArraySize=10", {"array_parallelism": 4}, ["--array=0-6%2", "--array=0-6%1", "--array=0-6%1"]),
        (3, "MaxArraySize = 0", {}, [""] * 3),  # no arrays at all
        (12, "", {}, ["--array=0-11%12"]),  # scontrol fails
        (12, "SlurmctldDebug = info", {}, ["--array=0-11%12"]),
        (4, "", {"array_size": 2}, ["--array=0-1%2"] * 2),
        (
            5,
            "MaxArraySize = 2",
            {"array_parallelism": 2, "additional_parameters": {"dependency": "afterok:7"}},
            [
                "--dependency=afterok:7",
                "--array=0-1%1 --dependency=afterok:7",
                "--array=0-1%1 --dependency=afterany:101,afterok:7",
            ],
        ),
    ],
)
def test_a_sweep_is_split_into_arrays_within_the_limit(
    runs: int,
    config: str,
    options: dict[str, object],
    asked: list[str],
    sbatch: Submit,
) -> None:
    """Together they keep to array_parallelism."""
    outcomes, arrays = sbatch(runs, config, **options)
    assert [outcome.state for outcome in outcomes] == ["elsewhere"] * runs
    assert sorted(arrays) == sorted(asked)


def test_submitted_arrays_are_kept_if_slurm_refuses_the_rest(
    sbatch: Submit,
) -> None:
    outcomes, _ = sbatch(12, refuses=2)
    assert [outcome.state for outcome in outcomes] == ["elsewhere"] * 6 + ["failed"] * 6
    assert outcomes[0].message == "job 101_0"
    assert "not submitted: " in outcomes[-1].message
    assert "QOSMaxSubmitJobPerUserLimit" in outcomes[-1].message
    assert "hydra.launcher.array_size=N" in outcomes[-1].message
    with pytest.raises(SlnlabError, match=r"QOSMaxSubmitJobPerUserLimit.*MaxSubmitJobs.*hydra\.launcher\.array_size=N"):
        sbatch(12, refuses=1)


def test_a_signal_before_the_run_begins_means_a_limit_too_short(tmp_path: Path) -> None:
    """The signal finds submitit's handler in OmegaConf here, which adds lines to the handler's error."""
    trace = "Error: Job not requeued because: timed-out too many times.\n    full_key: \n    object_type=None"
    result = tmp_path / "result.pkl"
    submitit.core.utils.cloudpickle_dump(("error", trace), result)
    job = SimpleNamespace(paths=SimpleNamespace(result_pickle=result, stdout="log"))
    assert slurm._result(job) == Outcome("failed", slurm.TOO_SHORT, "log")
