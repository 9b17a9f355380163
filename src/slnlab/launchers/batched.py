"""The batched launcher: small runs on feature vectors train together, many at a time in one process.

It is the local launcher with groups of runs in place of runs. Each run has the directory, the files and the result that
it would have alone. Runs that cannot train together train one by one.
"""

from __future__ import annotations

import json
import logging
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from slnlab.launchers.local import devices_here, launch_groups
from slnlab.launchers.planned import Outcome, Planned
from slnlab.schema.kinds import Count

log = logging.getLogger(__name__)

FEWEST = 4
"""Fewest runs of a group. With fewer the batched computation gains too little to be worth another group."""


def launch(
    plan: Sequence[Planned], folder: Path, *, runs_together: Count = 100, devices: Count | None = None
) -> list[Outcome]:
    """Do the runs in groups that train together, a group on each core or GPU at a time.

    Args:
        plan: the runs.
        folder: folder of the sweep; not used.
        runs_together: most runs of a group. Each needs some megabytes of memory. On a CPU a group keeps the data once;
            on a GPU, or with a part of the data (`data.train_size`), each run has a copy.
        devices: see `slnlab.launchers.local.launch`.

    Returns:
        The outcomes in the order of `plan`.

    Raises:
        ConfigError, Stopped: see `slnlab.launchers.local.launch`.
    """
    here = devices_here(devices, plan)
    later = _followers(plan)
    found: dict[int, Outcome] = {}
    for numbers in filter(None, ([number for number in range(len(plan)) if number not in later], sorted(later))):
        part = [plan[number] for number in numbers]
        groups = _groups(part, runs_together, len(here))
        outcomes = launch_groups([[part[place] for place in group] for group in groups], here)
        for group, each in zip(groups, outcomes, strict=True):
            found |= {numbers[place]: outcome for place, outcome in zip(group, each, strict=True)}
    return [found[number] for number in range(len(plan))]


def _followers(plan: Sequence[Planned]) -> set[int]:
    """The numbers of the runs that wait for another of the plan to make the runs that both need first."""
    from slnlab.training import first_runs

    makers, later = set[Path](), set[int]()
    for number, planned in enumerate(plan):
        wanted = {first.spec.directory for first in first_runs.needed(planned.spec) if not first.exists}
        if wanted and wanted <= makers:
            later.add(number)
        makers |= wanted
    return later


def _groups(plan: Sequence[Planned], most: int, devices: int) -> list[list[int]]:
    """The numbers of the runs in groups. A run that trains alone is a group."""
    from slnlab.training import first_runs
    from slnlab.training.together import why_alone

    alike: dict[str, list[int]] = defaultdict(list)
    alone: dict[str, list[int]] = defaultdict(list)
    for number, planned in enumerate(plan):
        reason = why_alone(planned.config)
        # It would wait for a run that may train in the same company, which does not go on without it.
        if reason is None and not all(first.exists for first in first_runs.needed(planned.spec)):
            reason = "they need other runs first"
        if reason is None:
            alike[_kind(planned)].append(number)
        else:
            alone[reason].append(number)
    for reason, numbers in alone.items():
        log.warning("%d of %d runs train one by one: %s", len(numbers), len(plan), reason)
    groups = []
    for numbers in alike.values():
        parts = max(math.ceil(len(numbers) / most), min(devices, math.ceil(len(numbers) / FEWEST)))
        groups += [numbers[len(numbers) * part // parts : len(numbers) * (part + 1) // parts] for part in range(parts)]
    return groups + [[number] for numbers in alone.values() for number in numbers]


def _kind(planned: Planned) -> str:
    """Runs of one kind share data and the shape of their networks."""
    container = planned.spec.container
    return json.dumps([container["data"], container["model"]], sort_keys=True, default=str)
