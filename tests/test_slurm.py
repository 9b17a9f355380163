"""Sweeps on a real SLURM cluster of one node, started and ended by these tests."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import kill_matrix
import pytest
import slurm_cluster
from commands import until

from slnlab.config import compose
from slnlab.train import train

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(slurm_cluster.why_not() is not None, reason=str(slurm_cluster.why_not())),
]

SMALL = ("data.train_size=200", "trainer.max_epochs=2", "trainer.accelerator=cpu")
LONG = (
    *(override for override in kill_matrix.OVERRIDES if "epochs" not in override),
    "trainer.max_epochs=30",
    "correction.last_epochs=10",
)
"""Overrides of a run whose epochs are long enough to hit."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with slurm_cluster.cluster(tmp_path_factory.mktemp("slurm")) as environment:
        yield {**environment, "OMP_NUM_THREADS": "1"}


def sweep(cluster: dict[str, str], *overrides: str) -> subprocess.Popen[str]:
    """Start it and wait for nothing."""
    command = [sys.executable, "-m", "slnlab.train", "-m", "launcher=slurm", "hydra.launcher.poll_s=1", *overrides]
    return subprocess.Popen(command, env=cluster, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def slurm(cluster: dict[str, str], *command: str) -> str:
    return subprocess.run(command, env=cluster, capture_output=True, text=True, check=True, timeout=60).stdout


def epochs(directory: Path) -> int:
    try:
        with (directory / "metrics.csv").open(newline="") as file:
            return len(list(csv.DictReader(file)))
    except OSError:
        return 0


def job_of(directory: Path) -> str:
    """The newest job that did this run, as SLURM's commands want it."""
    return (directory / "slurm.txt").read_text().splitlines()[-1].split()[1]


def release(cluster: dict[str, str], directory: Path) -> None:
    """A requeued job waits for two minutes unless somebody says that it need not."""
    job, begun = job_of(directory), (directory / "slurm.txt").read_text().count("job ")

    def again() -> bool:
        command = ["scontrol", "update", f"JobId={job}", "StartTime=now"]
        subprocess.run(command, env=cluster, capture_output=True, check=False, timeout=60)
        time.sleep(2)  # the scheduler does not look at once at a job that was just changed
        return (directory / "slurm.txt").read_text().count("job ") > begun

    until(again, f"job {job} runs again")


def whole(directory: Path, *overrides: str) -> Path:
    """The same run, undisturbed, here."""
    train(compose(overrides), directory)
    return directory


def test_one_failure_in_a_sweep_of_six_is_reported(cluster: dict[str, str], tmp_path: Path) -> None:
    grid = (*SMALL, f"runs_dir={tmp_path}", "noise=sym,asym", "optimizer.lr=0.01,0.02,1e30")
    running = sweep(cluster, *grid, "hydra.launcher.timeout_min=10")
    said, _ = running.communicate(timeout=400)
    assert running.returncode == 1, said
    assert len(list(tmp_path.rglob("result.json"))) == 4
    assert "4 runs done, 2 failed" in said
    for noise in ("sym", "asym"):
        (line,) = (
            line for line in said.splitlines() if f"failed: noise={noise} optimizer.lr=1e+30: the loss is" in line
        )
        log = Path(line.rpartition("(see ")[2].rstrip(")"))
        assert "the loss is" in log.read_text()
    assert "2 of 6 runs failed" in said
    # Again: only what is missing, and it is known which that is.
    status = subprocess.run(
        [sys.executable, "-m", "slnlab.sweep", "status", str(tmp_path)], capture_output=True, text=True, check=True
    ).stdout.split()
    assert (status[status.index("done") - 1], status[status.index("failed") - 1]) == ("4", "2")
    again = sweep(cluster, *grid)
    said, _ = again.communicate(timeout=400)
    assert "4 of 6 runs are finished already" in said
    assert "submitted 2 runs" in said


def test_requeued_runs_equal_uninterrupted_ones(cluster: dict[str, str], tmp_path: Path) -> None:
    running = sweep(cluster, *LONG, f"runs_dir={tmp_path / 'runs'}", "seed=0,1")
    directories = {0: Path(), 1: Path()}
    for seed in directories:
        until(lambda seed=seed: list((tmp_path / "runs").rglob(f"seed{seed}/metrics.csv")), f"run {seed} begins")
        (directories[seed],) = (path.parent for path in (tmp_path / "runs").rglob(f"seed{seed}/metrics.csv"))
    until(lambda: epochs(directories[0]) >= 3, "3 epochs")
    slurm(cluster, "scancel", "--signal=USR2", job_of(directories[0]))
    until(lambda: epochs(directories[1]) >= 3, "3 epochs")
    slurm(cluster, "scontrol", "requeue", job_of(directories[1]))
    for directory in directories.values():
        assert epochs(directory) < 30, "it was hit in the middle"
        release(cluster, directory)
    said, _ = running.communicate(timeout=400)
    assert running.returncode == 0, said
    for seed, directory in directories.items():
        assert (directory / "slurm.txt").read_text().count("job ") == 2
        undisturbed = whole(tmp_path / f"whole{seed}", *LONG, f"seed={seed}")
        assert kill_matrix.differences(undisturbed, directory, epochs=30) == []


@pytest.mark.slow  # SLURM takes half a minute to notice, and lets the job wait for two
def test_a_run_survives_a_lost_node(tmp_path: Path) -> None:
    folder = tmp_path / "slurm"
    folder.mkdir()
    with slurm_cluster.cluster(folder) as environment:
        environment["OMP_NUM_THREADS"] = "1"
        running = sweep(environment, *LONG, f"runs_dir={tmp_path / 'runs'}")
        until(lambda: list((tmp_path / "runs").rglob("metrics.csv")), "the run begins")
        (directory,) = (path.parent for path in (tmp_path / "runs").rglob("metrics.csv"))
        until(lambda: epochs(directory) >= 2, "2 epochs")
        slurm_cluster.lose_node(folder)
        assert epochs(directory) < 30
        until(lambda: "down" in slurm(environment, "sinfo", "--noheader", "--format=%T"), "SLURM has noticed")
        slurm_cluster.bring_back_node(folder, environment)
        # Not released at once as elsewhere: Debian's slurmctld crashes when told to.
        until(lambda: (directory / "slurm.txt").read_text().count("job ") == 2, "the job runs again", 240)
        said, _ = running.communicate(timeout=400)
        assert running.returncode == 0, said
    undisturbed = whole(tmp_path / "whole", *LONG)
    assert kill_matrix.differences(undisturbed, directory, epochs=30) == []


ENDLESS = (
    "model.widths=[512,512,512,512]",
    "data.batch_size=2",
    "trainer.accelerator=cpu",
    "data.eval_batch_size=50",
    "hydra.launcher.timeout_min=1",
    "hydra.launcher.signal_delay_s=1",
)
"""Overrides of a run whose first epoch takes longer than the time limit."""


def test_a_time_limit_shorter_than_a_step_is_reported(cluster: dict[str, str], tmp_path: Path) -> None:
    """The signal comes while Python still imports what it needs: a job that put itself back would never end."""
    running = sweep(cluster, *ENDLESS, f"runs_dir={tmp_path}")
    until(lambda: list(tmp_path.rglob("slurm.txt")), "it begins")
    (begun,) = tmp_path.rglob("slurm.txt")
    slurm(cluster, "scancel", "--signal=USR2", job_of(begun.parent))
    said, _ = running.communicate(timeout=150)
    assert running.returncode == 1, said
    assert "nothing could be saved within the time limit; raise timeout_min" in said


@pytest.mark.slow
def test_an_epoch_longer_than_the_time_limit_is_finished_in_parts(cluster: dict[str, str], tmp_path: Path) -> None:
    """SLURM itself says here that the time is nearly over."""
    running = sweep(cluster, *ENDLESS, "hydra.launcher.signal_delay_s=30", f"runs_dir={tmp_path}")
    until(lambda: list(tmp_path.rglob("within-0.ckpt")), "the run is saved within its first epoch")
    (saved,) = tmp_path.rglob("within-0.ckpt")
    directory = saved.parents[1]
    release(cluster, directory)
    gone_on = re.compile(r"going on after step [1-9]\d* of epoch 1\b")
    until(lambda: gone_on.search((directory / "train.log").read_text()), "it goes on")
    slurm(cluster, "scancel", job_of(directory))
    said, _ = running.communicate(timeout=200)
    assert running.returncode == 1, said
    assert "its job ended without a result (SLURM says CANCELLED)" in said


def test_slurm_starts_all_processes_of_a_run(cluster: dict[str, str], tmp_path: Path) -> None:
    overrides = (*SMALL, "method=sln_mo_lc", "correction.last_epochs=1", "trainer.devices=2")
    running = sweep(cluster, *overrides, f"runs_dir={tmp_path / 'runs'}", "hydra.launcher.tasks_per_node=2")
    said, _ = running.communicate(timeout=400)
    assert running.returncode == 0, said
    (result,) = (tmp_path / "runs").rglob("result.json")
    started_here = whole(tmp_path / "here", *overrides)
    assert kill_matrix.differences(started_here, result.parent, epochs=2) == []


def test_a_cancelled_job_is_reported_and_others_continue(cluster: dict[str, str], tmp_path: Path) -> None:
    running = sweep(cluster, *LONG, f"runs_dir={tmp_path}", "trainer.max_epochs=10000,30")
    until(lambda: len(list(tmp_path.rglob("metrics.csv"))) == 2, "both begin")
    (endless,) = (path.parent for path in tmp_path.rglob("config.yaml") if "epochs: 10000" in path.read_text())
    until(lambda: epochs(endless) >= 1, "an epoch")
    slurm(cluster, "scancel", job_of(endless))
    said, _ = running.communicate(timeout=400)
    assert running.returncode == 1, said
    assert "1 runs done, 1 failed" in said
    assert "trainer.max_epochs=10000: its job ended without a result (SLURM says CANCELLED)" in said


def test_only_user_signals_requeue_a_job() -> None:
    from slnlab.launchers.slurm import REQUEUE_SIGNALS

    assert {signal.SIGUSR1, signal.SIGUSR2} == REQUEUE_SIGNALS
    assert signal.SIGTERM not in REQUEUE_SIGNALS, "which is how a job is cancelled"
    assert os.environ.get("SLURM_JOB_ID") is None
