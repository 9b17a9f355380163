"""What every launcher shares: what there is to do, doing one of it, and what became of it all."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig

from slnlab import config
from slnlab.config.run_spec import RunSpec
from slnlab.errors import Busy, SlnlabError
from slnlab.text.terminal import log_file

log = logging.getLogger(__name__)

State = Literal["done", "failed", "elsewhere"]


@dataclass(frozen=True)
class Planned:
    """A run of a sweep."""

    spec: RunSpec
    directory: Path
    overrides: tuple[str, ...]
    name: str
    """What tells it from the sweep's other runs."""
    config_dirs: tuple[str, ...] = ()
    """The user's own (--config-dir), for the runs that this one needs first."""

    @property
    def finished(self) -> bool:
        return (self.directory / "result.json").exists() and not self.config.force

    @property
    def config(self) -> DictConfig:
        return self.spec.config

    def changed(self, values: Mapping[str, Any]) -> Planned:
        """With other values of keys that do not belong to the run's identity, by dotted key."""
        return replace(self, spec=self.spec.changed(values))

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Outcome:
    """What became of a run: done; failed, with a message and a log to read; or being done by another process."""

    state: State
    message: str = ""
    log: str = ""
    sound: bool = True
    """False: the process that did it should do no other; after an error of CUDA's, for one, nothing works in it."""


def do(planned: Planned, wait: bool = False) -> Outcome:
    """Do one run in this process. What it says goes to `train.log` in its directory too.

    Args:
        planned: the run.
        wait: when another process is at it, wait for it.

    Raises:
        Stopped: this process was told to stop.
    """
    from slnlab.train import train

    path = planned.directory / "train.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = log_file(path)
    except OSError as error:
        return Outcome("failed", f"{path}: cannot be written: {error.strerror or error}")
    handler.setFormatter(logging.Formatter("[%(asctime)s][%(name)s][%(levelname)s] - %(message)s"))
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        config.extra_config_dirs[:] = planned.config_dirs
        train(planned.spec, planned.directory, planned.overrides, wait)
        return Outcome("done")
    except Busy as error:
        return Outcome("elsewhere", str(error))
    except SlnlabError as error:
        log.error("failed: %s", error)
        return Outcome("failed", str(error), str(path))
    except Exception as error:
        log.error("failed:\n%s", traceback.format_exc())
        return Outcome("failed", f"{type(error).__name__}: {error}", str(path), sound=False)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()


def missing(plan: Sequence[Planned]) -> list[Planned]:
    """Those that are not finished; the others are only counted."""
    left = [planned for planned in plan if not planned.finished]
    if len(left) < len(plan):
        log.info("%d of %d runs are finished already", len(plan) - len(left), len(plan))
    return left


def summary(outcomes: Iterable[tuple[Planned, Outcome]]) -> list[tuple[Planned, Outcome]]:
    """Log what became of a sweep, and return what failed."""
    all_of_them = list(outcomes)
    count = {state: sum(outcome.state == state for _, outcome in all_of_them) for state in ("done", "failed")}
    elsewhere = [planned for planned, outcome in all_of_them if outcome.state == "elsewhere"]
    log.info("%d runs done, %d failed", count["done"], count["failed"])
    if elsewhere:
        log.info("%d are being done by another process: %s", len(elsewhere), "; ".join(map(str, elsewhere)))
    failed = [(planned, outcome) for planned, outcome in all_of_them if outcome.state == "failed"]
    for planned, outcome in failed:
        log.error("failed: %s: %s%s", planned, outcome.message, f" (see {outcome.log})" if outcome.log else "")
    return failed
