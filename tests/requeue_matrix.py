"""The requeue matrix: runs of sweeps, hit by a signal or by SLURM itself, compared with one that was left alone.

`python tests/requeue_matrix.py --out experiments/requeue_matrix` (`make requeue-matrix`) starts a SLURM cluster of one
node, as root. What a single run's process survives, moment by moment, is the kill matrix's question; here it is who
starts a run again, on which launcher.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import kill_matrix
import matrix_page
import psutil
import slurm_cluster
from test_slurm import LONG, epochs, job_of, release, slurm, until

PHASES = {
    "begun": ("the run's directory is there, no epoch is finished", 0),
    "epoch": ("in an epoch, after the third", 3),
    "correction": ("in an epoch with label correction, after the 21st of 30", 21),
}
EPOCHS = 30


@dataclass
class Cell:
    """One row of the table."""

    launcher: str
    event: str
    phase: str
    epochs_then: int
    went_on: str
    differences: str


def sweep(environment: dict[str, str], launcher: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "slnlab.train", "-m", f"launcher={launcher}", *LONG, f"runs_dir={folder}"]
    if launcher == "slurm":
        command.append("hydra.launcher.poll_s=1")
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def reached(folder: Path, phase: str) -> Path:
    """Wait for the moment; the run's directory."""
    until(lambda: list(folder.rglob("config.yaml")), "the run begins")
    (directory,) = (path.parent for path in folder.rglob("config.yaml"))
    until(lambda: epochs(directory) >= PHASES[phase][1], phase)
    return directory


def worker_of(running: subprocess.Popen[str]) -> int:
    """The process of launcher=local that does the run."""
    children = psutil.Process(running.pid).children(recursive=True)
    return max(children, key=lambda process: sum(process.cpu_times()[:2])).pid


def job_process(directory: Path) -> int:
    """The process on the node that does the run."""
    for process in psutil.process_iter():
        try:
            if "submitit.core._submit" in process.cmdline() and str(directory.parents[4]) in " ".join(
                process.cmdline()
            ):
                return process.pid
        except psutil.Error:
            continue
    raise AssertionError("no such process")


Event = Callable[[dict[str, str], subprocess.Popen[str], Path], None]

SLURM: dict[str, tuple[Event, str]] = {
    "scancel --signal=USR2": (
        lambda env, _, directory: void(slurm(env, "scancel", "--signal=USR2", job_of(directory))),
        "requeued by the job",
    ),
    "scancel --signal=USR1": (
        lambda env, _, directory: void(slurm(env, "scancel", "--signal=USR1", job_of(directory))),
        "requeued by the job",
    ),
    "scontrol requeue": (
        lambda env, _, directory: void(slurm(env, "scontrol", "requeue", job_of(directory))),
        "requeued by SLURM",
    ),
    "scancel": (lambda env, _, directory: void(slurm(env, "scancel", job_of(directory))), "the same command"),
    "kill -9 of the job's process": (
        lambda env, _, directory: os.kill(job_process(directory), signal.SIGKILL),
        "the same command",
    ),
}
LOCAL: dict[str, tuple[Event, str]] = {
    "SIGTERM to the command": (lambda _, running, __: running.send_signal(signal.SIGTERM), "the same command"),
    "SIGKILL to the command": (lambda _, running, __: running.kill(), "the same command"),
    "SIGKILL to the run's process": (
        lambda _, running, __: os.kill(worker_of(running), signal.SIGKILL),
        "the same command",
    ),
}
NOT_ASKED = {("begun", "scancel --signal=USR1"), ("begun", "scancel --signal=USR2")}
"""Before the first step these fail the run, and say that its time limit is too short: test_slurm.py."""


def void(_: object) -> None:
    """For a lambda that is to return nothing."""


def cell(environment: dict[str, str], launcher: str, event: str, phase: str, whole: Path, folder: Path) -> Cell:
    """One run, hit once."""
    act, goes_on = (SLURM if launcher == "slurm" else LOCAL)[event]
    running = sweep(environment, launcher, folder)
    directory = reached(folder, phase)
    then = epochs(directory)
    assert then < EPOCHS, "too late"
    act(environment, running, directory)
    if goes_on.startswith("requeued"):
        release(environment, directory)
    else:
        running.communicate(timeout=200)
        assert running.returncode != 0, "nobody has noticed"
        running = sweep(environment, launcher, folder)
    said, _ = running.communicate(timeout=300)
    differences = (
        kill_matrix.differences(whole, directory, EPOCHS) if running.returncode == 0 else [said.splitlines()[-1]]
    )
    return Cell(launcher, event, phase, then, goes_on, ", ".join(differences))


def page(cells: list[Cell], seconds: float) -> str:
    columns = ["launcher", "what happened", "when", "epochs then", "who started it again"]
    rows = [(c.launcher, c.event, f"{c.phase}: {PHASES[c.phase][0]}", c.epochs_then, c.went_on) for c in cells]
    return f"""# Requeue matrix: runs of sweeps that were hit, on each launcher

**Question.** Does a run of a sweep that was signalled, requeued, cancelled or killed end with the same bits as one that
was left alone, and who starts it again?

**Command.** `make requeue-matrix`, as root where SLURM is installed, wrote this page and
[`results.csv`](results.csv), in {seconds / 60:.0f} minutes.

**Set-up.** A real SLURM cluster of one node, this machine (auth/munge, proctrack/linuxproc, no accounting), and
launcher=local on the same machine; digits, `{" ".join(LONG)}`. *Identical* compares as the
[kill matrix](../kill_matrix/README.md) does. The two minutes that a requeued job waits are skipped
(`scontrol update StartTime=now`).

{matrix_page.environment()}

{matrix_page.result(cells, columns, rows)}

**Not shown here.** A node that disappears and a time limit that is reached are in `tests/test_slurm.py` (the former in
`make test-slow`, as SLURM takes minutes over it); several nodes; GPUs; Ray, whose worker that dies is in
`tests/test_launchers.py`.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the folder for results.csv and README.md")
    known = parser.parse_args()
    missing = slurm_cluster.why_not()
    if missing:
        sys.exit(f"error: {missing}")
    os.environ["OMP_NUM_THREADS"] = "1"
    from slnlab.config import compose
    from slnlab.train import train

    begin = time.monotonic()
    cells: list[Cell] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = folder / "whole"
        train(compose(LONG), whole)
        (folder / "slurm").mkdir()
        with slurm_cluster.cluster(folder / "slurm") as environment:
            for launcher, events in (("local", LOCAL), ("slurm", SLURM)):
                for event in events:
                    for phase in PHASES:
                        if (phase, event) in NOT_ASKED:
                            continue
                        runs = folder / "runs"
                        cells.append(cell(environment, launcher, event, phase, whole, runs))
                        print(cells[-1], flush=True)
                        shutil.rmtree(runs)
    matrix_page.write(known.out, cells, page(cells, time.monotonic() - begin))
    if any(c.differences for c in cells):
        sys.exit("a run that was hit ended differently; see the table")


if __name__ == "__main__":
    main()
