"""Trials chosen by Optuna: pruning, and resuming a stopped study."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from studies import TINY, sigmas

from slnlab import tune
from slnlab.errors import Pruned
from slnlab.processes.stopping import Stopped
from slnlab.study import optuna_search, runs
from slnlab.study.plan import Plan, StudyRun
from slnlab.study.record import Study
from slnlab.tables.runs import find_runs
from slnlab.train import train


def optuna_plan(runs_dir: str) -> Plan:
    """Clean labels and learning rates of which some are far too small, so that some trials are hopeless."""
    overrides = ["optimizer.lr=tag(log,interval(0.00001,0.05))", "noise=none", "sln.sigma=0", *TINY]
    return Plan([*overrides, "data.batch_size=16", "trainer.max_epochs=3", f"runs_dir={runs_dir}"], trials=6)


def outcome(study: Study) -> list[tuple[Any, ...]]:
    return [(trial.values, trial.state, trial.accuracies, trial.message) for trial in study.trials]


def searched(plan: Plan) -> Study:
    study = Study.begin(plan)
    optuna_search.search(plan, study)
    return study


def test_a_stopped_optuna_study_equals_an_uninterrupted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped within a run, whose checkpoint it goes on from, and between a run and its entry in the journal."""
    monkeypatch.setattr(optuna_search, "STARTUP_TRIALS", 2)
    whole = searched(optuna_plan("whole"))
    assert {trial.state for trial in whole.trials} == {"finished", "pruned"}, "else this test shows little"

    calls = {"report": 0, "set_user_attr": 0}

    def stopping(name: str, at: int) -> None:
        called = getattr(optuna.Trial, name)

        def call(self: optuna.Trial, *arguments: Any) -> None:
            calls[name] += 1
            if calls[name] == at:
                raise Stopped(signal.SIGTERM)
            called(self, *arguments)

        monkeypatch.setattr(optuna.Trial, name, call)

    stopping("report", 5)  # the second epoch of the second trial
    stopping("set_user_attr", 3)  # the third has just ended
    plan = optuna_plan("stopped")
    stops = 0
    while True:
        try:
            study = searched(plan)
            break
        except Stopped:
            stops += 1
    assert stops == 2
    assert outcome(study) == outcome(whole)
    assert outcome(searched(plan)) == outcome(whole), "all was done"

    # What became of a pruned trial
    pruned = next(trial for trial in study.trials if trial.state == "pruned")
    (directory,) = map(Path, pruned.directories)
    assert json.loads((directory / "pruned.json").read_text())["why"] == pruned.message
    assert not (directory / "result.json").exists()
    assert directory not in find_runs([Path("stopped")]).unfinished, "it was ended on purpose"
    states = [trial.state for trial in optuna_search._open(plan).trials]
    assert states.count(optuna.trial.TrialState.PRUNED) == [t.state for t in study.trials].count("pruned")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    train(plan.trial(pruned.values, 0).config)
    assert (directory / "result.json").exists(), "it can go on"
    assert not (directory / "pruned.json").exists()


def test_each_trial_warms_up_for_a_third_of_its_own_epochs() -> None:
    """A search over the length: the third epoch of 3 is the last, that of 9 is in the warm-up."""
    plan = Plan(["trainer.max_epochs=3,9", *(text for text in TINY if "max_epochs" not in text)], trials=2)
    asked: Any = SimpleNamespace(report=lambda *_: None, should_prune=lambda: True)
    ended = []
    for epochs in (3, 9):
        watch = optuna_search._pruning(plan, asked, {"trainer.max_epochs": str(epochs)})
        assert watch is not None
        for epoch in range(1, epochs + 1):
            try:
                watch(0.1, epoch)
            except Pruned:
                ended.append((epochs, epoch))
    assert ended == [(3, 2), *((9, epoch) for epoch in range(4, 9))]


def test_a_study_takes_more_trials_and_mends_a_torn_journal(fake_runs: list[str]) -> None:
    plan = Plan(sigmas("0.1", "0.5", "1"), trials=3, prune=False)
    directory = plan.directory
    three = searched(plan)
    with (directory / "optuna.journal").open("ab") as file:
        file.write(b'{"op_code": 4, "wor')  # a machine was lost here
    plan.trials = 5
    five = searched(plan)
    assert five.trials[:3] == three.trials
    assert len(fake_runs) == 5
    assert plan.directory == directory


def test_a_failed_trial_is_tried_again(monkeypatch: pytest.MonkeyPatch, fake_runs: list[str]) -> None:
    plan = Plan(sigmas("0.1", "0.5", "1"), trials=3, prune=False)
    fake = runs.train_run
    broken = True

    def train_run(run: StudyRun, *rest: Any) -> Any:
        if broken and len(fake_runs) == 1:
            raise OSError("disk full")
        return fake(run, *rest)

    monkeypatch.setattr(runs, "train_run", train_run)
    assert [trial.state for trial in searched(plan).trials] == ["finished", "failed", "failed"]
    broken = False
    assert [trial.state for trial in searched(plan).trials] == ["finished"] * 3
    assert len(fake_runs) == 3


def test_without_optuna_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(SystemExit, match=r"error: --trials needs the extra: pip install 'slnlab\[tune\]'"):
        tune.main([*sigmas(), "--trials", "2"])
    assert not Path("runs").exists()
