"""A run that another one needs finished before it begins."""

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
    """What is needed.

    Args:
        spec: of the run.
        file: of its directory, what is wanted of it.
        why: said when it is made.
    """

    spec: RunSpec
    file: Path
    why: str

    @property
    def exists(self) -> bool:
        return RunDirectory(self.spec.directory).finished and self.file.exists()


def make(needed: NeededRun, train: Train, by: RunSpec) -> None:
    """Do the run, unless it is there.

    Args:
        needed: the run.
        train: does it.
        by: the run that needs it, for the record.

    Raises:
        SlnlabError: what `train` raises, or the run has not left the file.
    """
    if needed.exists:
        return
    log.info("%s", needed.why)
    # Where it is finished, what is wanted of it was removed.
    again = needed.spec.changed({"force": RunDirectory(needed.spec.directory).finished})
    train(again, needed.spec.directory, [f"(made for {by.title})"], wait=True)
