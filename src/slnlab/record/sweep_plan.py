"""Which runs a sweep consists of, and where each of them stands.

`python -m slnlab.train --multirun` writes down its runs (`.sweeps/` in `runs_dir`); whether each is done, running,
stopped, failed or not begun is read from its directory. Nothing here imports torch.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from omegaconf import OmegaConf

from slnlab.errors import DataError
from slnlab.record.run_directory import RunDirectory
from slnlab.storage.locks import is_held
from slnlab.storage.writing import replacing

PLANS = ".sweeps"

State = Literal["done", "running", "stopped", "failed", "pruned", "missing"]
STATES: dict[State, str] = {
    "done": "finished, with a result",
    "running": "a process is at it",
    "stopped": "begun, and nobody is at it; it goes on by the same command",
    "failed": "ended by an error (failure.txt in its directory)",
    "pruned": "ended early by a study",
    "missing": "not begun",
}


def write_plan(runs_dir: Path, directories: Iterable[Path], command: Sequence[str]) -> None:
    """Write down what a sweep consists of. The same sweep again is the same plan.

    Args:
        runs_dir: where `status` will look.
        directories: of its runs, below `runs_dir`.
        command: the overrides as typed.

    Raises:
        DataError: the plan cannot be written.
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
class Run:
    """Where a run stands.

    Args:
        path: below the folder that was asked about.
        state: see `STATES`.
        epochs: done, of `max_epochs` (0: unknown, the run has not begun).
        seconds: of training so far.
        message: of a failure.
    """

    path: str
    state: State
    epochs: int = 0
    max_epochs: int = 0
    seconds: float = 0.0
    message: str = ""


def look(folder: Path) -> list[Run]:
    """All runs below a folder, those that are planned and have not begun included.

    Raises:
        DataError: there is no such folder.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder")
    made = (path.parent.relative_to(folder) for path in folder.rglob("config.yaml"))
    found = {str(path) for path in made if "wandb" not in path.parts}  # W&B has files of that name below a run
    for plan in folder.glob(f"{PLANS}/*.json"):
        found.update(json.loads(plan.read_text(encoding="utf-8"))["runs"])
    return [look_at(folder, path) for path in sorted(found)]


def look_at(folder: Path, path: str) -> Run:
    """Where the run at `folder / path` stands."""
    run = RunDirectory(folder / path)
    if not run.config.exists():
        failure = _message(run)
        state: State = "running" if is_held(run.path) else "failed" if failure else "missing"
        return Run(path, state, message=failure)
    epochs, seconds = _progress(run)
    if run.finished:
        return Run(path, "done", epochs, epochs, seconds)
    config = OmegaConf.load(run.config)
    failure = _message(run)
    state = "running" if is_held(run.path) else "failed" if failure else "pruned" if run.pruned.exists() else "stopped"
    return Run(path, state, epochs, int(config.trainer.max_epochs), seconds, failure)


def _message(run: RunDirectory) -> str:
    try:
        return run.failure.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _progress(run: RunDirectory) -> tuple[int, float]:
    """Epochs done, and the seconds that they took."""
    try:
        with run.metrics.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError:
        return 0, 0.0
    return len(rows), sum(float(row["seconds"]) for row in rows)


def time_left(runs: Sequence[Run]) -> float | None:
    """Seconds until all are done, if those that are running go on so and hand over to the others; None: unknown.

    A run of unknown length counts as the mean of those that are done, of the same data, noise and method if there are.
    """
    at_work = sum(run.state == "running" for run in runs)
    if not at_work:
        return None
    done = [run for run in runs if run.state == "done"]
    left = 0.0
    for run in runs:
        if run.state in ("done", "failed", "pruned"):
            continue
        if run.epochs:
            left += (run.max_epochs - run.epochs) * run.seconds / run.epochs
            continue
        alike = [other.seconds for other in done if other.path.split("/")[:3] == run.path.split("/")[:3]]
        known = alike or [other.seconds for other in done]
        if not known:
            return None
        left += sum(known) / len(known)
    return left / at_work


def duration(seconds: float) -> str:
    """Words for a time.

    >>> duration(59), duration(600), duration(9000)
    ('59 s', '10 min', '2 h 30 min')
    """
    minutes = int(seconds // 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"
