"""First runs: those that another run needs for its initial weights, its noise or its transition matrix."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from slnlab.config.run_spec import RunSpec
from slnlab.training import probability_run, source_runs, transition_run
from slnlab.training.needed import NeededRun, Train, make

log = logging.getLogger(__name__)


def needed(spec: RunSpec) -> Iterator[NeededRun]:
    """The runs needed by this one, existing or not, in the order of training."""
    for kind in (source_runs, probability_run, transition_run):
        yield from kind.needed(spec)


def with_first_runs(spec: RunSpec, train: Train) -> RunSpec:
    """The run with its first runs made and their paths filled in. The identity is unchanged.

    Args:
        spec: of the run. A run that needs no other is returned unchanged.
        train: `slnlab.train.train`.

    Raises:
        SlnlabError: a first run failed.
    """
    for remark in source_runs.remarks(spec):
        log.warning("%s", remark)
    for first in needed(spec):
        make(first, train, spec)
    # The run on noisy labels is found by the unfilled noise, so the probabilities come last.
    return probability_run.filled(transition_run.filled(spec))
