"""The requeue matrix: runs of sweeps, hit by a signal or by SLURM itself, compared with one that was left alone.

`make requeue-matrix` starts a SLURM cluster of one
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

RUNS = {
    "one process": LONG,
    "two processes": (*LONG, "trainer.devices=2"),
    "init.from": (
        "method=co_teaching",
        "init.from=sln",
        *(override for override in LONG if not override.startswith(("method=", "correction."))),
    ),
}
"""What is hit: one run, a run whose processes SLURM starts as tasks, and one that makes another run first."""

FIRST_METHOD = "sln"
"""Of the run that the one with init.from makes first."""

PHASES = {
    "begun": ("the run's directory is there, no epoch is finished", 0),
    "first run": ("in the run that it starts from, after its third epoch", 3),
    "epoch": ("in an epoch, after the third", 3),
    "correction": ("in an epoch with label correction, after the 21st of 30", 21),
}
EPOCHS = 30


@dataclass
class Cell:
    """One row of the table."""

    launcher: str
    run: str
    event: str
    phase: str
    epochs_then: int
    went_on: str
    differences: str


def sweep(environment: dict[str, str], launcher: str, run: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "slnlab.train", "-m", f"launcher={launcher}", *RUNS[run], f"runs_dir={folder}"]
    if launcher == "slurm":
        command.append("hydra.launcher.poll_s=1")
        command.append(f"hydra.launcher.tasks_per_node={2 if run == 'two processes' else 1}")
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def begun(folder: Path, first: bool) -> Path | None:
    """The directory of the sweep's run, or of the run that it makes first; None: not there yet."""
    made = (path.parent for path in folder.rglob("config.yaml"))
    return next((path for path in made if (path.relative_to(folder).parts[2] == FIRST_METHOD) == first), None)


def reached(folder: Path, phase: str) -> tuple[Path, int]:
    """Wait for the moment; the directory of the sweep's run, and how many epochs are done then."""
    first = phase == "first run"
    until(lambda: begun(folder, first), "the run begins")
    at_work = begun(folder, first)
    assert at_work is not None
    until(lambda: epochs(at_work) >= PHASES[phase][1], phase)
    done = epochs(at_work)
    assert done < EPOCHS, "too late"
    if first:  # the sweep's run has no configuration yet, but the job has left its number in its directory
        (at_work,) = (path.parent for path in folder.rglob("train.log"))
    return at_work, done


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

CELLS = [
    *(
        (launcher, "one process", event, phase)
        for launcher, events in (("local", LOCAL), ("slurm", SLURM))
        for event in events
        for phase in ("begun", "epoch", "correction")
        if (phase, event) not in NOT_ASKED
    ),
    ("local", "two processes", "SIGTERM to the command", "epoch"),
    ("local", "two processes", "SIGKILL to the run's process", "correction"),
    ("slurm", "two processes", "scancel --signal=USR2", "epoch"),
    ("slurm", "two processes", "scontrol requeue", "correction"),
    ("slurm", "two processes", "kill -9 of the job's process", "epoch"),
    ("local", "init.from", "SIGTERM to the command", "first run"),
    ("local", "init.from", "SIGKILL to the run's process", "epoch"),
    ("slurm", "init.from", "scancel --signal=USR2", "first run"),
    ("slurm", "init.from", "scontrol requeue", "epoch"),
    ("slurm", "init.from", "kill -9 of the job's process", "first run"),
]


def void(_: object) -> None:
    """For a lambda that is to return nothing."""


def cell(
    environment: dict[str, str], launcher: str, run: str, event: str, phase: str, whole: Path, folder: Path
) -> Cell:
    """One run, hit once."""
    act, goes_on = (SLURM if launcher == "slurm" else LOCAL)[event]
    running = sweep(environment, launcher, run, folder)
    directory, then = reached(folder, phase)
    act(environment, running, directory)
    if goes_on.startswith("requeued"):
        release(environment, directory)
    else:
        running.communicate(timeout=200)
        assert running.returncode != 0, "nobody has noticed"
        running = sweep(environment, launcher, run, folder)
    said, _ = running.communicate(timeout=300)
    differences = [said.splitlines()[-1]] if running.returncode else differing(whole, folder)
    return Cell(launcher, run, event, phase, then, goes_on, ", ".join(differences))


def differing(whole: Path, folder: Path) -> list[str]:
    """What is not the same in any of the runs that were left alone and the same that was hit."""
    runs = [result.parent.relative_to(whole) for result in whole.rglob("result.json")]
    assert runs
    return [what for run in runs for what in kill_matrix.differences(whole / run, folder / run, EPOCHS)]


def page(cells: list[Cell], seconds: float) -> str:
    columns = ["launcher", "run", "what happened", "when", "epochs then", "who started it again"]
    rows = [(c.launcher, c.run, c.event, f"{c.phase}: {PHASES[c.phase][0]}", c.epochs_then, c.went_on) for c in cells]
    commands = "\n".join(f"- *{name}*: `{' '.join(overrides)}`" for name, overrides in RUNS.items())
    return f"""# Requeue matrix: interrupted runs of sweeps, on each launcher

**Question.** A run of a sweep is signalled, requeued, cancelled or killed. Does it end with the same bits as an
undisturbed run, and who starts it again?

**Command.** `make requeue-matrix`, as root where SLURM is installed, wrote this page and
[`results.csv`](results.csv), in {seconds / 60:.0f} minutes.

**Set-up.** A real SLURM cluster of one node, this machine (auth/munge, proctrack/linuxproc, no accounting), and
launcher=local on the same machine. The runs, on digits:

{commands}

SLURM starts the two processes as tasks of one job (`hydra.launcher.tasks_per_node=2`). The run with `init.from` makes a
run of SLN first, in the same job; both runs are compared. *Identical* has the meaning of the
[kill matrix](../kill_matrix/README.md). A requeued job does not wait its usual two minutes
(`scontrol update StartTime=now`).

{matrix_page.environment()}

{matrix_page.result(cells, columns, rows)}

**Not shown.** Several nodes; GPUs. `tests/test_slurm.py` covers a lost node (in `make test-slow`, since SLURM takes
minutes over it) and a reached time limit; `tests/test_launchers.py` covers a dead Ray worker.
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
        for run, overrides in RUNS.items():
            train(compose([*overrides, f"runs_dir={folder / 'whole' / run}"]))
        (folder / "slurm").mkdir()
        with slurm_cluster.cluster(folder / "slurm") as environment:
            for launcher, run, event, phase in CELLS:
                runs = folder / "runs"
                cells.append(cell(environment, launcher, run, event, phase, folder / "whole" / run, runs))
                print(cells[-1], flush=True)
                shutil.rmtree(runs)
    matrix_page.write(known.out, cells, page(cells, time.monotonic() - begin))
    if any(c.differences for c in cells):
        sys.exit("a run that was hit ended differently; see the table")


if __name__ == "__main__":
    main()
