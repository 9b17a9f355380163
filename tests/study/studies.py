"""Short studies."""

from __future__ import annotations

from slnlab.study import grid_search
from slnlab.study.plan import Plan
from slnlab.study.record import Study

TINY = ["data.train_size=200", "trainer.max_epochs=2", "trainer.accelerator=cpu", "trainer.progress=false"]


def trials(plan: Plan) -> Study:
    """Only the trials and the choice."""
    study = Study.begin(plan)
    grid_search.search(plan, study)
    study.choose()
    return study


def sigmas(*values: str) -> list[str]:
    return [f"sln.sigma={','.join(values or ('0.1', '0.5'))}", *TINY]
