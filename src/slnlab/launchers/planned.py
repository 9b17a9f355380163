"""Planned runs: the plan, the execution and the outcome of a sweep's runs, for every launcher."""

from __future__ import annotations

import gc
import logging
import sys
import threading
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from omegaconf import DictConfig

from slnlab import config
from slnlab.config.run_spec import RunSpec
from slnlab.errors import Busy, SlnlabError
from slnlab.record.run_directory import RunDirectory
from slnlab.text.terminal import log_file

if TYPE_CHECKING:
    from pytorch_lightning import Callback

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Planned:
    """A run of a sweep, with its settled specification, directory and overrides."""

    spec: RunSpec
    directory: Path
    overrides: tuple[str, ...]
    name: str
    """The overrides that differ from those of the sweep's other runs."""
    config_dirs: tuple[str, ...] = ()
    """The user's folders with configuration (--config-dir), for the runs that this one needs first."""

    @property
    def finished(self) -> bool:
        return RunDirectory(self.directory).finished and not self.config.force

    @property
    def config(self) -> DictConfig:
        return self.spec.config

    def changed(self, values: Mapping[str, Any]) -> Planned:
        """The same run with other values, by dotted key, of keys outside its identity."""
        return replace(self, spec=self.spec.changed(values))

    def on_threads(self, threads: int) -> Planned:
        """The same run without a progress line, with so many threads and decoding processes unless it states others."""
        changes = {"trainer.progress": False, "trainer.threads": self.config.trainer.threads or threads}
        if "workers" in self.config.data and self.config.data.workers is None:
            changes["data.workers"] = threads
        return self.changed(changes)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run: done; failed, with a message and a log file; or left to another process."""

    state: Literal["done", "failed", "elsewhere"]
    message: str = ""
    log: str = ""
    sound: bool = True
    """False if the process must do no other run, as nothing works in it after an error of CUDA."""


_running: set[int] = set()
"""The threads of this process that do a run."""

_level = logging.WARNING
"""The level of the root logger before the first of them began."""

_changing = threading.Lock()


def _begin(thread: int) -> None:
    """Note a thread that does a run. The logs of all runs have INFO lines, until the last of them ends."""
    global _level
    with _changing:
        if not _running:
            _level = logging.getLogger().level
            logging.getLogger().setLevel(logging.INFO)
        _running.add(thread)


def _end(thread: int) -> None:
    with _changing:
        _running.discard(thread)
        if not _running:
            logging.getLogger().setLevel(_level)


def execute(planned: Planned, wait: bool = False, callbacks: Sequence[Callback] = ()) -> Outcome:
    """Do one run in this process. Its log also goes to `train.log` in its directory.

    Args:
        planned: the run.
        wait: True waits while another process does the run.
        callbacks: further callbacks of Lightning.

    Raises:
        Stopped: this process got a signal to stop.
    """
    from slnlab.train import train

    path = planned.directory / "train.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = log_file(path)
    except OSError as error:
        return Outcome("failed", f"{path}: cannot be written: {error.strerror or error}")
    handler.setFormatter(logging.Formatter("[%(asctime)s][%(name)s][%(levelname)s] - %(message)s"))
    mine = threading.get_ident()
    _begin(mine)
    handler.addFilter(lambda record: record.thread == mine or record.thread not in _running)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        config.search_in(planned.config_dirs)
        train(planned.spec, planned.directory, planned.overrides, wait, callbacks=callbacks)
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
        handler.close()
        _end(mine)
        if "torch" in sys.modules and sys.modules["torch"].cuda.is_initialized():
            gc.collect()  # a trainer and its method refer to each other, and hold the GPU's memory


def execute_together(group: Sequence[Planned]) -> list[Outcome]:
    """Do runs in this process that train together, see `slnlab.training.together`. One run is done as by `execute`.

    Args:
        group: runs that `slnlab.training.together.why_alone` has no reason against.

    Raises:
        Stopped: as `execute`.
    """
    if len(group) == 1:
        return [execute(group[0])]
    from slnlab.processes.stopping import obeying_signals
    from slnlab.training.devices import threads
    from slnlab.training.together import Company, Together

    company = Company()
    with obeying_signals(), threads(group[0].config):
        found = company.run([partial(execute, planned, callbacks=[Together(company)]) for planned in group])
    return [outcome if isinstance(outcome, Outcome) else Outcome("failed", repr(outcome)) for outcome in found]


def missing(plan: Sequence[Planned]) -> list[Planned]:
    """The unfinished runs of a plan. The log counts the others, and those of other versions of the user's code."""
    done: list[Planned] = []
    left: list[Planned] = []
    for planned in plan:
        (done if planned.finished else left).append(planned)
    if done:
        log.info("%d of %d runs are finished already", len(done), len(plan))
    changed = [modules for each in done if (modules := RunDirectory(each.directory).changed_code(each.spec))]
    if changed:
        names = ", ".join(sorted({*chain.from_iterable(changed)}))
        log.warning("%d of them with another version of %s; force=true trains them anew", len(changed), names)
    return left


def summary(outcomes: Iterable[tuple[Planned, Outcome]]) -> list[tuple[Planned, Outcome]]:
    """Log the outcomes of a sweep, and return the failed runs."""
    every = list(outcomes)
    count = {state: sum(outcome.state == state for _, outcome in every) for state in ("done", "failed")}
    elsewhere = [planned for planned, outcome in every if outcome.state == "elsewhere"]
    log.info("%d runs done, %d failed", count["done"], count["failed"])
    if elsewhere:
        log.info("%d are being done by another process: %s", len(elsewhere), "; ".join(map(str, elsewhere)))
    failed = [(planned, outcome) for planned, outcome in every if outcome.state == "failed"]
    for planned, outcome in failed:
        log.error("failed: %s: %s%s", planned, outcome.message, f" (see {outcome.log})" if outcome.log else "")
    return failed
