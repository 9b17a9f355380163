"""How a sweep is going: `python -m slnlab.sweep status runs`.

`python -m slnlab.train --multirun` writes down which runs a sweep consists of (`.sweeps/` in `runs_dir`); whether each
is done, running, stopped, failed or not begun is read from its directory. Nothing here imports torch.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from omegaconf import OmegaConf

from slnlab.errors import DataError, SlnlabError
from slnlab.record.run_directory import RunDirectory
from slnlab.storage.locks import is_held
from slnlab.storage.writing import replacing
from slnlab.text.terminal import ending_with_its_reader, print_anywhere

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
    return [_look_at(folder, path) for path in sorted(found)]


def _look_at(folder: Path, path: str) -> Run:
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


def table(runs: Sequence[Run]) -> str:
    """A line per state, then a line per run that is not simply done or missing."""
    count = Counter(run.state for run in runs)
    lines = [f"{count[state]:6d} {state:8s} {what}" for state, what in STATES.items()]
    left = time_left(runs)
    if count["running"]:
        lines.append("time left: " + ("unknown as yet" if left is None else f"about {_duration(left)}"))
    for state in ("running", "stopped", "failed"):
        for run in (run for run in runs if run.state == state):
            done = f"{run.epochs}/{run.max_epochs} epochs" if run.max_epochs else "not begun"
            lines.append(f"  {state:8s} {run.path}  {done}{'  ' + run.message if run.message else ''}")
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    minutes = int(seconds // 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


@ending_with_its_reader
def main(arguments: Sequence[str] | None = None, program: str = "python -m slnlab.sweep") -> None:
    print_anywhere()
    parser = argparse.ArgumentParser(
        program, description="How a sweep is going: which runs are done, and which are not."
    )
    parser.add_argument("what", choices=["status"])
    parser.add_argument("folder", type=Path, help="runs_dir of the sweep")
    parser.add_argument("--watch", type=float, metavar="SECONDS", help="show it again and again, until all are done")
    parser.add_argument("--json", action="store_true", help="every run, for another program")
    options = parser.parse_args(arguments)
    try:
        while True:
            runs = look(options.folder)
            if options.json:
                print(json.dumps([vars(run) for run in runs], indent=1))
            else:
                clear = "\033[2J\033[H" if options.watch and sys.stdout.isatty() else ""
                print(f"{clear}{table(runs)}", flush=True)
            if not options.watch or all(run.state == "done" for run in runs):
                break
            time.sleep(options.watch)
    except SlnlabError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
