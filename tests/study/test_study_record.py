"""The choice of a study and its remarks."""

from __future__ import annotations

import pytest
from studies import sigmas, trials

from slnlab.errors import SlnlabError
from slnlab.study.page import page
from slnlab.study.plan import Plan
from slnlab.study.record import Study, Trial


def test_ties_choose_the_first_and_are_reported(fake_runs: list[str]) -> None:
    study = trials(Plan(sigmas("1", "0.5", "0.2", "0.1")))
    assert study.chosen == {"sln.sigma": "0.5"}
    assert "As good as it, and later in the order of the study: sln.sigma=0.2." in page(study)
    # sqrt(0.625 * 0.375 / 20) = 0.1083
    assert "one standard error" not in page(study)
    assert "| 0.5 | 62.50 | chosen |" in page(study)


def test_differences_within_chance_are_named(fake_runs: list[str]) -> None:
    """0.5 against 0.625 with ten samples: sqrt(0.625 * 0.375 / 10) = 0.153."""
    study = trials(Plan([*sigmas("1", "0.2", "0.1"), "data.noisy_val=10"]))
    assert study.chosen == {"sln.sigma": "0.2"}
    assert "(± 15.3 points with 10 held-out samples): sln.sigma=0.1." in page(study)


def test_a_perfect_choice_from_a_few_samples_is_uncertain_too() -> None:
    """Agresti and Coull: 22 of 24, √(22/24 · 2/24 / 24) = .0564, more than the one sample of 20."""
    study = Study.begin(Plan([*sigmas("0.1", "0.2", "0.3"), "data.noisy_val=20"]))
    study.trials = [
        Trial(values={"sln.sigma": sigma}, state="finished", accuracies=[accuracy], directories=[])
        for sigma, accuracy in (("0.1", 1.0), ("0.2", 0.95), ("0.3", 0.9))
    ]
    study.choose()
    assert study.remarks[0].startswith(
        "Within one standard error of it (± 5.6 points with 20 held-out samples): sln.sigma=0.2. "
    )
    assert study.standard_error(0) == pytest.approx(study.standard_error(1))


def test_without_finished_runs_there_is_no_choice() -> None:
    study = Study.begin(Plan(sigmas()))
    study.trials = [Trial(values={"sln.sigma": "0.1"}, state="diverged", accuracies=[], directories=[], message="nan")]
    with pytest.raises(SlnlabError, match="no trial has finished"):
        study.choose()
