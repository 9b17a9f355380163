"""The source run of an estimated transition matrix; methods/test_loss_correction.py tests its use."""

from __future__ import annotations

from pathlib import Path

import pytest

from slnlab.config import compose
from slnlab.config.run_spec import RunSpec
from slnlab.errors import SlnlabError
from slnlab.record.run_directory import RunDirectory
from slnlab.training.settling import settle
from slnlab.training.transition_run import filled, needed


def test_the_estimating_run_ignores_keys_of_the_correcting_method(tmp_path: Path) -> None:
    """The baseline `early_stopping` goes by accuracy; both corrections share the estimate."""

    def noisy(*overrides: str) -> RunSpec:
        (first,) = needed(settle(compose([*overrides, f"runs_dir={tmp_path}"])))
        return first.spec

    made = [noisy(f"method={name}") for name in ("forward", "backward")]
    assert [run.config.best_epoch.criterion for run in made] == ["loss", "loss"]
    assert made[0].subdir == made[1].subdir
    assert noisy("method=forward", "clip_norm=1").config.clip_norm == 1
    by_accuracy = compose(["method=forward", "method.criterion=accuracy", f"runs_dir={tmp_path}"])
    assert noisy("method=forward", "method.criterion=accuracy").config.best_epoch.criterion == "accuracy"
    assert settle(by_accuracy).subdir != settle(compose(["method=forward"])).subdir
    baseline = compose(["method=early_stopping", "data.test=false"])
    assert baseline.best_epoch.criterion == "accuracy"
    assert settle(baseline).subdir != made[0].subdir
    for name in ("co_teaching", "co_teaching_plus", "jocor", "sigua", "t_revision"):
        choice = [] if name == "t_revision" else ["method.forget_rate=anchor_points"]
        assert noisy(f"method={name}", *choice).subdir == made[0].subdir


def test_every_process_predicts_its_own_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is finished, and what it says of the labels is not stored; each process would see its part of them."""
    spec = settle(compose(["method=forward", f"runs_dir={tmp_path}"]))
    (first,) = needed(spec)
    run = RunDirectory(first.spec.directory)
    run.checkpoint.parent.mkdir(parents=True)
    run.checkpoint.touch()
    run.result.touch()

    monkeypatch.setattr("slnlab.processes.distributed.world_size", lambda: 2)
    with pytest.raises(SlnlabError, match="predictions need one process"):
        filled(spec)


def test_noisy_labels_choose_the_estimating_network_beside_correct_ones(tmp_path: Path) -> None:
    """The matrix is that of the noise, so correct labels, which the user evaluates on, must not choose its network."""
    config = compose(["data=clothing1m", "method=forward", f"runs_dir={tmp_path}"])
    assert config.data.clean_val
    (first,) = needed(settle(config))
    assert not first.spec.config.data.clean_val
    assert first.spec.config.data.noisy_val == 100_000
    assert first.spec.config.loss.name == "cross_entropy"


def test_cross_entropy_estimates_the_rate_for_another_loss(tmp_path: Path) -> None:
    choice = ["method=co_teaching", "method.forget_rate=anchor_points", f"runs_dir={tmp_path}"]
    (first,), (other,) = (needed(settle(compose([*choice, *loss]))) for loss in ([], ["loss=gce"]))
    assert other.spec.config.loss.name == "cross_entropy"
    assert other.spec.subdir == first.spec.subdir
