"""Outcomes of runs and the trials made of them."""

from __future__ import annotations

from typing import Any

import pytest
from studies import sigmas, trials

from slnlab.errors import Busy, Diverged
from slnlab.study import runs
from slnlab.study.page import page
from slnlab.study.plan import Plan, StudyRun
from slnlab.study.runs import run_trial


def test_the_mean_of_the_last_epochs_can_choose(fake_runs: list[str]) -> None:
    """The faked accuracies are 0 in the epoch before the last."""
    study = trials(Plan(sigmas("0.1", "0.2"), last=2, trial_seeds=[3, 4]))
    assert [trial.accuracies for trial in study.trials] == [[0.25, 0.25], [0.3125, 0.3125]]
    assert fake_runs == [f"sln.sigma={sigma} seed={seed}" for sigma in ("0.1", "0.2") for seed in (3, 4)]


def test_diverging_values_are_excluded_and_named(monkeypatch: pytest.MonkeyPatch, fake_runs: list[str]) -> None:
    fake = runs.train_run

    def train_run(run: StudyRun, *rest: Any) -> Any:
        if run.values["sln.sigma"] == "0.5":
            raise Diverged("the loss is nan in epoch 2")
        return fake(run, *rest)

    monkeypatch.setattr(runs, "train_run", train_run)
    study = trials(Plan(sigmas("0.5", "0.1")))
    assert study.chosen == {"sln.sigma": "0.1"}
    assert "| 0.5 | – | diverged: the loss is nan in epoch 2 |" in page(study)
    assert "Not among the choices: sln.sigma=0.5" in page(study)


def test_a_run_of_another_launcher_is_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then its result counts; a second process of the study does not take it for failed."""
    plan = Plan([*sigmas("0.1", "0.5"), "hydra/launcher=basic"])
    run = plan.trial({"sln.sigma": "0.1"}, 0)
    waited = list[float]()
    monkeypatch.setattr(runs, "is_held", lambda directory: len(waited) < 3)
    monkeypatch.setattr(runs.time, "sleep", waited.append)
    with pytest.raises(Busy, match="another process trains the run in "):
        run_trial(plan, run.values, wait=False)
    assert run_trial(plan, run.values, wait=True).state == "failed", "it has ended without a result"
    assert len(waited) == 3


@pytest.mark.parametrize(
    ("failure", "state"),
    [
        ("slnlab.errors.Diverged: the loss is nan in epoch 3 (step 12)", "diverged"),
        ("Diverged: some weights are not finite after epoch 3 (step 12)", "diverged"),
        ("CUDA out of memory", "failed"),
        (None, "failed"),
    ],
)
def test_runs_left_by_a_launcher_are_not_run_locally(
    failure: str | None, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here may be the login node of a cluster."""
    monkeypatch.setattr(runs, "train_run", None)
    plan = Plan([*sigmas("0.1", "0.5"), "hydra/launcher=basic"])
    directory = plan.trial({"sln.sigma": "0.1"}, 0).directory
    directory.mkdir(parents=True)
    if failure:
        (directory / "failure.txt").write_text(f"{failure}\n")
    trial = run_trial(plan, {"sln.sigma": "0.1"})
    assert trial.state == state
    assert (failure or "the launcher has left no result") in (trial.message or "")
