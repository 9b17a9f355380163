"""Grid search: every combination of the values."""

from __future__ import annotations

import logging

from slnlab.errors import Busy
from slnlab.study.files import save
from slnlab.study.plan import Plan, typed
from slnlab.study.record import Study, Trial
from slnlab.study.runs import run_trial

log = logging.getLogger(__name__)


def search(plan: Plan, study: Study) -> None:
    """Do all trials of the grid and save the study after each. Trials in work elsewhere are awaited at the end.

    Raises:
        DataError: a file of the study cannot be written.
    """
    grid = list(plan.grid())
    trials: dict[int, Trial] = {}
    later: list[int] = []
    for wait, numbers in ((False, list(range(len(grid)))), (True, later)):
        for number in numbers:
            log.info("trial %d of %d: %s", number + 1, len(grid), typed(grid[number]))
            try:
                trials[number] = run_trial(plan, grid[number], wait=wait)
            except Busy as error:
                log.info("%s; the trial is tried again later", error)
                later.append(number)
                continue
            study.trials = [trials[i] for i in sorted(trials)]
            save(study, plan.directory)
