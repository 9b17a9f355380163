"""The runs of a sweep, and the status of each.

`python -m slnlab.train --multirun` lists its runs in `.sweeps/` below `runs_dir`. The status of each (done, running,
stopped, failed, …) is read from its directory. This module does not import torch.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from slnlab.errors import DataError
from slnlab.record.run_directory import RunDirectory
from slnlab.storage.locks import is_held
from slnlab.storage.writing import replacing

PLANS = ".sweeps"

RunState = Literal["done", "running", "stopped", "failed", "pruned", "missing"]
STATES: dict[RunState, str] = {
    "done": "finished, with a result",
    "running": "a process is training it",
    "stopped": "begun, but no process is training it; the same command continues it",
    "failed": "ended by an error (failure.txt in its directory)",
    "pruned": "ended early by a study",
    "missing": "not begun",
}

ENDED = ("done", "failed", "pruned")
"""States that change only by another command."""


def write_plan(runs_dir: Path, directories: Iterable[Path], command: Sequence[str]) -> None:
    """Write the list of a sweep's runs. Repeating a sweep replaces its list.

    Args:
        runs_dir: folder that holds all runs and lists.
        directories: of the sweep's runs, below `runs_dir`.
        command: the overrides as typed.

    Raises:
        DataError: the list cannot be written.
    """
    runs = sorted(str(directory.relative_to(runs_dir)) for directory in directories)
    folder = runs_dir / PLANS
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be made: {error.strerror or error}") from error
    name = hashlib.sha256("\n".join(runs).encode()).hexdigest()[:10]
    with replacing(folder / f"{name}.json") as file:
        file.write(json.dumps({"command": list(command), "runs": runs}, indent=1).encode())


@dataclass(frozen=True)
class RunStatus:
    """Status of a run.

    Args:
        path: relative to the folder that was searched.
        state: see `STATES`.
        epochs: finished epochs.
        max_epochs: epochs of the whole run; 0 before it has begun.
        seconds: training time so far.
        message: reason of a failure; empty without one.
    """

    path: str
    state: RunState
    epochs: int = 0
    max_epochs: int = 0
    seconds: float = 0.0
    message: str = ""


def run_statuses(folder: Path) -> list[RunStatus]:
    """Status of all runs below a folder, including planned runs that have not begun.

    Raises:
        DataError: the folder does not exist.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder")
    made = (RunDirectory(path.parent) for path in folder.rglob("config.yaml"))
    found = {str(run.path.relative_to(folder)) for run in made if run.identity.exists()}  # others use that name, too
    for plan in folder.glob(f"{PLANS}/*.json"):
        with suppress(ValueError, KeyError):  # half-written on a lost machine; the same sweep writes it again
            found.update(json.loads(plan.read_text(encoding="utf-8"))["runs"])
    return [run_status(folder, path) for path in sorted(found)]


def run_status(folder: Path, path: str) -> RunStatus:
    """Status of the run at `folder / path`."""
    run = RunDirectory(folder / path)
    if not run.config.exists():
        failure = _message(run)
        state: RunState = "running" if is_held(run.path) else "failed" if failure else "missing"
        return RunStatus(path, state, message=failure)
    epochs, seconds = _progress(run)
    if run.finished:
        return RunStatus(path, "done", epochs, epochs, seconds)
    failure = _message(run)
    try:
        max_epochs = int(OmegaConf.load(run.config).trainer.max_epochs)
    except (OSError, ValueError, YAMLError, OmegaConfBaseException):
        return RunStatus(path, "failed", epochs, 0, seconds, failure or "config.yaml cannot be read")
    state = "running" if is_held(run.path) else "failed" if failure else "pruned" if run.pruned.exists() else "stopped"
    return RunStatus(path, state, epochs, max_epochs, seconds, failure)


def _message(run: RunDirectory) -> str:
    try:
        return run.failure.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _progress(run: RunDirectory) -> tuple[int, float]:
    """(finished epochs, their training time in seconds)."""
    try:
        with run.metrics.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError:
        return 0, 0.0
    seconds = []
    for row in rows:
        with suppress(ValueError, TypeError, KeyError):  # a copy of the file may end within a line
            seconds.append(float(row["seconds"]))
    return len(seconds), sum(seconds)


def time_left(runs: Sequence[RunStatus]) -> float | None:
    """Estimated seconds until all runs are done, at today's number of running processes; None: unknown.

    A run that has not begun counts as the mean finished run, of the same data, noise and method where possible.
    """
    running = sum(run.state == "running" for run in runs)
    if not running:
        return None
    done = [run for run in runs if run.state == "done"]
    left = 0.0
    for run in runs:
        if run.state in ENDED:
            continue
        if run.epochs:
            left += (run.max_epochs - run.epochs) * run.seconds / run.epochs
            continue
        alike = [other.seconds for other in done if other.path.split("/")[:3] == run.path.split("/")[:3]]
        known = alike or [other.seconds for other in done]
        if not known:
            return None
        left += sum(known) / len(known)
    return left / running


def duration(seconds: float) -> str:
    """A time in words.

    Args:
        seconds: ≥ 0.

    >>> duration(59), duration(600), duration(9000)
    ('59 s', '10 min', '2 h 30 min')
    """
    minutes = int(seconds // 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"
