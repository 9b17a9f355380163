"""The run that a transition matrix is estimated from. What it does is in methods/test_loss_correction.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from slnlab.config import compose
from slnlab.config.identity import run_subdir
from slnlab.errors import SlnlabError
from slnlab.record.run_directory import RunDirectory
from slnlab.training.transition_run import noisy_run, with_estimate


def test_it_is_chosen_by_its_loss_and_is_no_other_run_for_what_only_its_method_says(tmp_path: Path) -> None:
    """The baseline `early_stopping` goes by accuracy; both corrections share the estimate."""
    made = [noisy_run(compose([f"method={name}", f"runs_dir={tmp_path}"])) for name in ("forward", "backward")]
    assert [run.method.criterion for run in made] == ["loss", "loss"]
    assert run_subdir(made[0]) == run_subdir(made[1])
    by_accuracy = compose(["method=forward", "method.criterion=accuracy", f"runs_dir={tmp_path}"])
    assert noisy_run(by_accuracy).method.criterion == "accuracy"
    assert run_subdir(by_accuracy) != run_subdir(compose(["method=forward"]))
    baseline = compose(["method=early_stopping", "data.test=false"])
    assert baseline.method.criterion == "accuracy"
    assert run_subdir(baseline) != run_subdir(made[0])


def test_one_of_several_processes_does_not_predict_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is finished, and what it says of the labels is not stored; each process would see its part of them."""
    config = compose(["method=forward", f"runs_dir={tmp_path}"])
    run = RunDirectory(tmp_path / run_subdir(noisy_run(config)))
    run.checkpoint.parent.mkdir(parents=True)
    run.checkpoint.touch()
    run.result.touch()

    def refuse(*_: object, **__: object) -> None:
        raise SlnlabError("make that run in one process first")

    monkeypatch.setattr("slnlab.processes.distributed.world_size", lambda: 2)
    with pytest.raises(SlnlabError, match="in one process first"):
        with_estimate(config, refuse)  # type: ignore[arg-type]
