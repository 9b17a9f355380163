"""The record of runs that stop at an awkward moment."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slnlab.callbacks.memorisation import MemorisationMonitor
from slnlab.errors import Diverged
from slnlab.methods.base import Method
from slnlab.record.result import Result

TinyRun = Callable[..., tuple[Result, Path]]


def test_a_run_stopped_after_its_last_epoch_still_writes_its_result(tiny_run: TinyRun) -> None:
    """All that is left to do is to judge the weights; no epoch is trained again."""
    first, path = tiny_run("method=sln", "trainer.progress=true")
    rows = (path / "metrics.csv").read_text()
    (path / "result.json").unlink()
    (path / "samples.npz").unlink()
    again, _ = tiny_run("method=sln", "trainer.progress=true")
    assert again.rows == first.rows
    assert set(again.rows) == {"network", "momentum"}
    assert (path / "metrics.csv").read_text() == rows
    assert (path / "samples.npz").exists()


def test_rows_of_earlier_epochs_stay_as_written(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the third epoch and taken up again: the first two rows are the same text."""
    measured = MemorisationMonitor.on_train_epoch_end

    def stop(self: MemorisationMonitor, trainer: Any, module: Any) -> None:
        measured(self, trainer, module)
        if trainer.current_epoch == 2:
            raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(MemorisationMonitor, "on_train_epoch_end", stop)
        with pytest.raises(RuntimeError, match="power cut"):
            tiny_run("trainer.max_epochs=3")
    metrics = tmp_path / "run" / "metrics.csv"
    before = metrics.read_text().splitlines()
    assert len(before) == 3, "a header and two epochs"
    tiny_run("trainer.max_epochs=3")
    after = metrics.read_text().splitlines()
    assert after[:3] == before
    assert [row.split(",")[0] for row in after] == ["epoch", "1", "2", "3"]


@pytest.mark.parametrize(
    ("overrides", "weights", "verdict"),
    [
        (
            ["method=ce", "noise=none", "data.padding=0", "data.batch_size=10", "trainer.max_epochs=6"],
            "network",
            "memorised",
        ),
        (["method=sln", "momentum.decay=0.999"], "network", "undertrained"),  # 4 steps; the momentum model lags
        (["method=early_stopping", "data.noisy_val=20"], "best", "undertrained"),
    ],
)
def test_the_log_names_the_judge_and_its_agreement(
    tiny_run: TinyRun,
    caplog: pytest.LogCaptureFixture,
    overrides: list[str],
    weights: str,
    verdict: str,
) -> None:
    """The list, the result and the log say the same; labels learned by heart are ranked all the same."""
    with caplog.at_level(logging.INFO):
        result, path = tiny_run(*overrides)
    issues = result.label_issues
    assert issues is not None
    assert issues.judge == weights
    assert issues.verdict == verdict
    assert issues.agreement == result.rows[issues.judge].findings.given_accuracy
    assert (issues.held_out is None) == ("data.noisy_val=20" not in overrides)
    with (path / "label_issues.csv").open(newline="", encoding="utf-8") as file:
        ranked = list(csv.DictReader(file))
    with np.load(path / "samples.npz") as samples:
        past = dict(zip(samples["index"], samples["probability_mean"], strict=True))
        prediction = dict(zip(samples["index"], samples[f"{issues.judge}_prediction"], strict=True))
    assert [int(row["rank"]) for row in ranked] == list(range(1, issues.samples + 1))
    assert [int(row["index"]) for row in ranked] == sorted(past, key=past.__getitem__)
    assert all(row["predicted_label"] == str(prediction[int(row["index"])]) for row in ranked)
    assert sum(row["is_label_issue"] == "True" for row in ranked) == issues.suspected
    label = result.rows[issues.judge].title
    assert f"{label} disagrees with {issues.suspected} of {issues.samples} training labels" in caplog.text
    assert ("has memorised labels" in caplog.text) == (verdict == "memorised")
    assert ("trained too little" in caplog.text) == (verdict == "undertrained")


@pytest.mark.parametrize(("method", "network"), [("ce", "network"), ("sln", "momentum"), ("co_teaching", "network_2")])
def test_non_finite_weights_of_a_last_step_are_not_saved(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch, method: str, network: str
) -> None:
    """The losses of the epoch are all finite still; a checkpoint of it would be the one to go on from."""
    train = Method.training_step

    def spoil(self: Method, batches: Any, number: int) -> None:
        train(self, batches, number)
        if self.current_epoch == 1 and self.trainer.is_last_batch:
            next(self.judged[network].parameters()).data.view(-1)[0] = float("nan")

    run = (f"method={method}", "trainer.max_epochs=3")
    with monkeypatch.context() as patch:
        patch.setattr(Method, "training_step", spoil)
        with pytest.raises(Diverged, match=r"some weights are not finite after epoch 2 \(step \d+, learning rate"):
            tiny_run(*run)
    tiny_run(*run)  # goes on after the first epoch
