"""Some runs need others first: to start from their weights, or to take noise or a transition matrix from them."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from slnlab.config.run_spec import RunSpec
from slnlab.training import probability_run, source_runs, transition_run
from slnlab.training.needed import NeededRun, Train, make

log = logging.getLogger(__name__)


def needed(spec: RunSpec) -> Iterator[NeededRun]:
    """The runs that this one needs, made or not, in the order in which they are made."""
    for kind in (source_runs, probability_run, transition_run):
        yield from kind.needed(spec)


def with_first_runs(spec: RunSpec, train: Train) -> RunSpec:
    """Make the runs that are missing, and fill in where they are. The identity stays.

    Args:
        spec: of the run that needs them; others pass as they are.
        train: `slnlab.train.train`, which makes a run.

    Raises:
        SlnlabError: what `train` raises.
    """
    for remark in source_runs.remarks(spec):
        log.warning("%s", remark)
    for first in needed(spec):
        make(first, train, spec)
    for kind in (source_runs, transition_run, probability_run):
        spec = kind.filled(spec)
    return spec
