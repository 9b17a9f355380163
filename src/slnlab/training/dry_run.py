"""`--dry-run`: the runs of a command, their states, and their time and memory. It runs and writes nothing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

from omegaconf import DictConfig

from slnlab.config.run_spec import RunSpec
from slnlab.record.run_directory import RunDirectory
from slnlab.record.sweep_plan import RunStatus, duration, run_status
from slnlab.text.terminal import quiet_on_broken_pipe
from slnlab.training import first_runs

NOTHING = "nothing was run or written"
"""The last line of every dry run."""

LATEST = 100
"""Number of finished runs that the estimate of time reads, latest first."""


@dataclass(frozen=True)
class PlanLine:
    """A run of the plan, shown as one line.

    Args:
        kind: first column of the line: run, trial, first.
        name: second column, distinct from the other runs.
        directory: of the run.
        spec: of the run.
        file: in the directory, needed by another run; None: only the result is wanted.
    """

    kind: str
    name: str
    directory: Path
    spec: RunSpec
    file: Path | None = None

    @property
    def config(self) -> DictConfig:
        """The configuration of the run."""
        return self.spec.config

    @cached_property
    def status(self) -> RunStatus:
        """The status of the run; its path is empty."""
        return run_status(self.directory, "")

    @property
    def left(self) -> bool:
        """True if the run has still to be done."""
        missing = self.file is not None and not self.file.exists()
        return bool(self.config.force) or missing or not RunDirectory(self.directory).finished

    @cached_property
    def kind_of_work(self) -> str:
        """A key that runs with equal time and memory share."""
        return _kind_of_work(self.spec.container)

    @property
    def state(self) -> str:
        """The state in words."""
        run = self.status
        state: str = run.state
        if run.state == "done" and self.left:
            state += ", again by force=true" if self.config.force else ", again for its missing file"
        elif run.state != "done" and run.epochs:
            state += f" ({run.epochs}/{run.max_epochs} epochs)"
        return state


@quiet_on_broken_pipe
def show(runs: Sequence[tuple[str, Path, RunSpec]]) -> None:
    """Print the plan.

    Args:
        runs: (name, directory, run), in their order.

    Raises:
        ConfigError, DataError: see `plan`.
    """
    for line in plan(runs):
        print(line, flush=True)
    print(NOTHING)


def plan(runs: Sequence[tuple[str, Path, RunSpec]], kind: str = "run") -> Iterator[str]:
    """The lines of a plan. The last lines, about weights and memory, import torch.

    Args:
        runs: (name, directory, run), in their order. Runs with equal directories count once.
        kind: name of a run in the plan, e.g. trial.

    Raises:
        ConfigError: a directory holds another run.
        DataError: files needed by a run cannot be read.
    """
    names = _distinct([name for name, _, _ in runs])
    once = {
        path: PlanLine(kind, name or spec.title, path, spec) for (_, path, spec), name in zip(runs, names, strict=True)
    }
    for planned in once.values():
        if not planned.config.force:
            RunDirectory(planned.directory).refuse_another_run(planned.spec)
    first: dict[Path, PlanLine] = {}
    for planned in once.values():
        for needed in _first(planned) if planned.left else ():
            first.setdefault(needed.directory, needed)
    before = f"; before them {_count(list(first.values()), 'run')} that they need" if first else ""
    yield f"{_count(list(once.values()), kind)}{before}"
    every = [*first.values(), *once.values()]
    width, states = max(len(planned.name) for planned in every), [planned.state for planned in every]
    for planned, state in zip(every, states, strict=True):
        yield f"{planned.kind:10}{planned.name:{width}}  {state:{max(map(len, states))}}  {planned.directory}"
    left = [planned for planned in every if planned.left]
    if not left:
        yield "nothing is left to do"
        return
    yield from _downloads(left)
    yield f"time      {_time(left)}"
    yield f"memory    {_memory(left)}"


def _count(runs: Sequence[PlanLine], kind: str) -> str:
    """`3 runs: 1 done, 2 missing`."""
    states = Counter(planned.status.state for planned in runs)
    parts = ", ".join(f"{number} {state}" for state, number in states.items())
    return f"{len(runs)} {kind}{'s' * (len(runs) != 1)} ({parts})"


def _distinct(names: Sequence[str]) -> list[str]:
    """The names without the words shared by all runs of a sweep."""
    same = set.intersection(*(set(name.split()) for name in names)) if len(names) > 1 else set()
    return [" ".join(word for word in name.split() if word not in same) for name in names]


# First runs


def _first(planned: PlanLine) -> Iterator[PlanLine]:
    """The runs needed by a run, directly or not, in the order of training."""
    for needed in first_runs.needed(planned.spec):
        spec = needed.spec
        run = PlanLine("first", f"{spec.title}, for {needed.by}", spec.directory, spec, needed.file)
        if run.left:
            yield from _first(run)
        yield run


def _downloads(runs: Sequence[PlanLine]) -> Iterator[str]:
    """A line for each file of published weights that the runs download."""
    pretrained = [run.config for run in runs if run.config.model.get("pretrained")]
    if not pretrained:  # or torch were imported for nothing
        return
    from slnlab.models.weight_files import wanted

    for file, address in dict.fromkeys(found for config in pretrained if (found := wanted(config))):
        if not file.exists():
            yield f"download  {address} to {file}, once"


# Time


def _time(runs: Sequence[PlanLine]) -> str:
    """The training time of all runs, one after the other, estimated from similar runs."""
    by_kind: dict[str, float | None] = {}
    for run in runs:
        if run.kind_of_work not in by_kind:
            by_kind[run.kind_of_work] = _seconds_per_epoch(run)
    known = [seconds for run in runs if (seconds := _seconds(run, by_kind[run.kind_of_work])) is not None]
    if not known:
        return "unknown: no run of this kind is finished"
    share = "" if len(known) == len(runs) else f" for {len(known)} of {len(runs)} runs, unknown for the others"
    return f"about {duration(sum(known))} of training, one run after the other, going by runs like these{share}"


def _seconds(planned: PlanLine, each_epoch: float | None) -> float | None:
    """Seconds of training left in a run, at its own pace if it has begun; None: unknown."""
    run, epochs = planned.status, int(planned.config.trainer.max_epochs)
    if run.epochs and run.state != "done" and not planned.config.force:
        return max(0, epochs - run.epochs) * run.seconds / run.epochs
    return None if each_epoch is None else epochs * each_epoch


def _seconds_per_epoch(planned: PlanLine) -> float | None:
    """The median over the latest finished runs of the same kind of work; None without any."""
    config = planned.config
    results = Path(config.runs_dir).glob(f"{config.data.name}/*/{config.method.name}/*/seed*/result.json")
    found = []
    for path in sorted(results, key=lambda path: path.stat().st_mtime)[-LATEST:]:
        with suppress(OSError, ValueError, KeyError, TypeError):  # `slnlab report` names a broken result
            result = json.loads(path.read_text(encoding="utf-8"))
            if _kind_of_work(result["identity"]) == planned.kind_of_work:
                found.append(float(result["timing"]["seconds_per_epoch"]))
    return median(found) if found else None


def _kind_of_work(container: Mapping[str, Any]) -> str:
    """A key of the settings that decide most of an epoch's time and memory."""
    data, trainer = container["data"], container["trainer"]
    sizes = [data["num_train"], data["train_size"], data["batch_size"]]
    return json.dumps(
        [data["name"], container["method"]["name"], container["model"], sizes, trainer["precision"]], sort_keys=True
    )


# Memory


def _memory(runs: Sequence[PlanLine]) -> str:
    """The memory of the largest run."""
    kinds = {run.kind_of_work: run.config for run in runs}
    try:
        from slnlab.training.memory import estimate

        return str(max(map(estimate, kinds.values()), key=lambda found: found.total))
    except Exception as error:  # a user's own network may not support the device `meta`
        return f"unknown: {type(error).__name__}: {error}"
