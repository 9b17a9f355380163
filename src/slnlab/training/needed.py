"""A run that must be finished before another begins."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from slnlab.config.run_spec import RunSpec
from slnlab.record.run_directory import RunDirectory

if TYPE_CHECKING:
    from slnlab.record.result import Result

log = logging.getLogger(__name__)

Train = Callable[..., "Result"]
"""`slnlab.train.train`."""


class NeededRun(NamedTuple):
    """A needed run.

    Args:
        spec: of the run.
        file: the wanted file in its directory.
        by: what needs it, as typed: `init.from=sln`.
        why: reason, logged when the run is made.
    """

    spec: RunSpec
    file: Path
    by: str
    why: str

    @property
    def exists(self) -> bool:
        """True if the run is finished and still has the file."""
        return RunDirectory(self.spec.directory).finished and self.file.exists()


def make(needed: NeededRun, train: Train, by: RunSpec) -> None:
    """Train the needed run, unless it exists.

    Args:
        needed: the run.
        train: `slnlab.train.train`.
        by: the run that needs it, named in its record.

    Raises:
        SlnlabError: the run failed.
    """
    if needed.exists:
        if changed := RunDirectory(needed.spec.directory).changed_code(needed.spec):
            log.warning("%s: is of another version of %s", needed.spec.directory, ", ".join(changed))
        return
    log.info("%s", needed.why)
    train(needed.spec, needed.spec.directory, [f"(made for {by.title})"], wait=True, wanted=needed.file)
