"""Grid search: every combination of the values."""

from __future__ import annotations

import logging

from slnlab.study.files import save
from slnlab.study.plan import Plan, typed
from slnlab.study.record import Study, Trial
from slnlab.study.runs import run_trial, share

log = logging.getLogger(__name__)


def search(plan: Plan, study: Study) -> None:
    """Do all trials of the grid and save the study after each. Trials in work elsewhere are awaited at the end.

    Raises:
        DataError: a file of the study cannot be written.
    """
    grid = list(plan.grid())
    trials: dict[int, Trial] = {}

    def do(number: int, wait: bool) -> None:
        log.info("trial %d of %d: %s", number + 1, len(grid), typed(grid[number]))
        trials[number] = run_trial(plan, grid[number], wait=wait)
        study.trials = [trials[i] for i in sorted(trials)]
        save(study, plan.directory)

    share(len(grid), do)
