"""One run from Python: its record, and its behaviour after a stop."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from sklearn.metrics import average_precision_score, roc_auc_score

from slnlab.callbacks.run_record import RunRecord
from slnlab.errors import ConfigError, DataError, SlnlabError
from slnlab.noise import NoiseRecord
from slnlab.record.metrics import read_metrics, summarise_test, summarise_validation
from slnlab.record.result import Result
from slnlab.record.run_directory import RunDirectory
from slnlab.training import assemble

TinyRun = Callable[..., tuple[Result, Path]]


def test_a_run_directory_contains_the_documented_files(tiny_run: TinyRun) -> None:
    result, path = tiny_run("method=sln_mo_lc", "correction.last_epochs=1", "data.noisy_val=20", "noise.rate=0.3")
    assert Result.load(path / "result.json") == result
    written = OmegaConf.load(path / "config.yaml")
    assert written.noise.rate == 0.3
    assert written.sln.sigma == 1.0, "resolved, not an interpolation"
    assert "noise.rate=0.3" in OmegaConf.load(path / "overrides.yaml")
    environment = json.loads((path / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__.split("+")[0]
    assert (path / "checkpoints" / "last.ckpt").exists()

    record = NoiseRecord.load(path / "noise.npz")
    assert result.label_noise["hash"] == record.hash
    assert result.label_noise["realised_rate"] == pytest.approx((record.true != record.given).double().mean().item())

    rows = read_metrics(path / "metrics.csv")
    assert [row["epoch"] for row in rows] == [1, 2]
    assert [row["step"] for row in rows] == [2, 4], "80 samples in batches of 64, the partial one kept"
    for weights in ("network", "momentum"):
        test = result.rows[weights].test_accuracy
        assert test == summarise_test(rows, weights)
        assert test.last == rows[-1][f"test/{weights}/accuracy"]
    assert result.epochs == 2
    for estimate in (result.noise_rate_estimate, result.noise_rate_by_anchors):
        assert estimate is not None
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
        with np.load(path / "samples.npz") as samples:  # without those held out
            assert estimate.error == pytest.approx(estimate.value - samples["wrong"].mean())
    assert result.timing.total_seconds == pytest.approx(sum(row["seconds"] for row in rows))


def test_findings_agree_with_the_stored_samples(tiny_run: TinyRun) -> None:
    result, path = tiny_run("trainer.max_epochs=5")
    with np.load(path / "samples.npz") as samples:
        wrong, loss = samples["given"] != samples["true"], samples["network_loss"]
        prediction = samples["network_prediction"]
        assert (wrong == samples["wrong"]).all()
        labels = result.rows["network"].findings
        assert labels.memorised == pytest.approx((prediction == samples["given"])[wrong].mean())
        assert labels.recovered == pytest.approx((prediction == samples["true"])[wrong].mean())
        assert labels.auroc == pytest.approx(roc_auc_score(wrong, loss))
        assert labels.average_precision == pytest.approx(average_precision_score(wrong, loss))


def test_the_four_reported_accuracies_by_hand() -> None:
    test = [0.1, 0.9, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.7]
    val = [0.1, 0.2, 0.8, 0.8, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3]
    rows = [
        {"epoch": e + 1.0, "test/network/accuracy": t, "val/network/accuracy": v}
        for e, (t, v) in enumerate(zip(test, val, strict=True))
    ]
    summary = summarise_test(rows, "network")
    assert summary is not None
    assert summary.last == 0.7
    assert summary.mean_last_10 == pytest.approx((0.5 + 8 * 0.6 + 0.7) / 10)
    assert summary.best_noisy_val is not None
    assert (summary.best_noisy_val.epoch, summary.best_noisy_val.accuracy) == (3, 0.5), "the first of equals"
    assert (summary.oracle.epoch, summary.oracle.accuracy) == (2, 0.9)
    assert summarise_test(rows, "momentum") is None
    validation = summarise_validation(rows, "network")
    assert validation is not None
    assert validation.last == 0.3
    assert validation.mean_last_10 == pytest.approx((2 * 0.8 + 8 * 0.3) / 10)
    assert (validation.best.epoch, validation.best.accuracy) == (3, 0.8)
    assert summarise_validation([{"epoch": 1.0}], "network") is None


def test_the_momentum_model_chooses_the_clean_validation_epoch_for_all() -> None:
    keys = ("network", "momentum")
    clean, test = {"network": [0.9, 0.1], "momentum": [0.2, 0.3]}, {"network": [0.5, 0.6], "momentum": [0.7, 0.8]}
    rows = [
        {"epoch": epoch + 1.0}
        | {f"val_clean/{key}/accuracy": clean[key][epoch] for key in keys}
        | {f"test/{key}/accuracy": test[key][epoch] for key in keys}
        for epoch in range(2)
    ]
    for key, accuracy in (("network", 0.6), ("momentum", 0.8)):
        summary = summarise_test(rows, key)
        assert summary is not None
        assert summary.best_clean_val is not None
        assert (summary.best_clean_val.epoch, summary.best_clean_val.accuracy) == (2, accuracy)


def test_runs_without_a_test_set_report_held_out_labels(tiny_run: TinyRun) -> None:
    result, path = tiny_run("data.test=false", "data.noisy_val=20")
    validation = result.rows["network"].noisy_val_accuracy
    assert validation is not None
    assert validation.last == read_metrics(path / "metrics.csv")[-1]["val/network/accuracy"]
    assert result.rows["network"].test_accuracy is None


def test_runs_without_any_evaluation_report_no_accuracy(tiny_run: TinyRun) -> None:
    result, _ = tiny_run("data.test=false", "noise=none")
    network = result.rows["network"]
    assert network.test_accuracy is None
    assert (network.findings.auroc, network.findings.memorised, network.findings.recovered) == (None, None, None)
    assert network.findings.given_accuracy == network.findings.true_accuracy


def test_the_same_seed_gives_the_same_run_and_another_seed_another(tiny_run: TinyRun, tmp_path: Path) -> None:
    runs = [tiny_run(f"seed={seed}", directory=tmp_path / name)[0] for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    assert runs[0].rows == runs[1].rows
    assert runs[0].rows != runs[2].rows
    assert len({run.label_noise["hash"] for run in runs}) == 1, "the label noise has its own seed"


def _stop_after(epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Die, as a killed process would, once the epoch's checkpoint is written and half of the next has happened."""
    seen = RunRecord.on_train_epoch_end

    def stop(self: RunRecord, trainer: pl.Trainer, module: Any) -> None:
        if trainer.current_epoch == epoch:
            raise RuntimeError("power cut")
        seen(self, trainer, module)

    monkeypatch.setattr(RunRecord, "on_train_epoch_end", stop)


@pytest.mark.parametrize("stop", [1, 3, 4])
def test_a_stopped_run_ends_like_an_uninterrupted_one(
    stop: int, tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ("method=sln_mo_lc", "trainer.max_epochs=5", "correction.last_epochs=2", "scheduler=cosine")
    whole, there = tiny_run(*overrides, directory=tmp_path / "whole")
    with monkeypatch.context() as patch:
        _stop_after(stop, patch)
        with pytest.raises(RuntimeError, match="power cut"):
            tiny_run(*overrides, directory=tmp_path / "stopped")
    assert not (tmp_path / "stopped" / "result.json").exists()
    resumed, here = tiny_run(*overrides, directory=tmp_path / "stopped")
    assert resumed.rows == whole.rows
    timings = {"seconds", "images_per_second"}
    without = [
        [{k: v for k, v in row.items() if k not in timings} for row in read_metrics(path / "metrics.csv")]
        for path in (there, here)
    ]
    assert without[0] == without[1]
    checkpoints = [torch.load(path / "checkpoints" / "last.ckpt", weights_only=True) for path in (there, here)]
    for part in ("state_dict", "sample_table", "optimizer_states", "lr_schedulers", "callbacks", "steps"):
        _assert_equal(checkpoints[0][part], checkpoints[1][part])


def _assert_equal(a: Any, b: Any) -> None:
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            _assert_equal(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            _assert_equal(x, y)
    else:
        assert a == b


def test_force_removes_only_files_of_the_run(tiny_run: TinyRun) -> None:
    _, path = tiny_run()
    (path / "notes.txt").write_text("mine")
    checkpoint = path / "checkpoints" / "last.ckpt"
    before = checkpoint.stat().st_mtime_ns
    tiny_run("force=true", "sln.sigma=0.3")
    assert (path / "notes.txt").read_text() == "mine"
    assert checkpoint.stat().st_mtime_ns > before
    assert OmegaConf.load(path / "config.yaml").sln.sigma == 0.3
    with (path / "metrics.csv").open() as file:
        assert len(list(csv.reader(file))) == 3, "a header and two epochs, nothing of the former run"


def test_a_forced_run_that_stops_says_how_to_go_on(tiny_run: TinyRun, caplog: pytest.LogCaptureFixture) -> None:
    """The same command would begin it anew."""
    with pytest.raises(SlnlabError, match="the loss is nan"):
        tiny_run("force=true", "optimizer.lr=1e30")
    assert "without force=true the same command goes on" in caplog.text


def test_two_processes_cannot_run_in_one_directory(tiny_run: TinyRun, tmp_path: Path) -> None:
    with RunDirectory(tmp_path / "run").locked(), pytest.raises(SlnlabError, match="another process"):
        tiny_run()


def test_a_directory_refuses_another_configuration(tiny_run: TinyRun) -> None:
    tiny_run()
    with pytest.raises(ConfigError, match=r"noise\.rate=0\.4 there, 0\.2 here"):
        tiny_run("noise.rate=0.2")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "cannot be read"),
        ("[]", "schema version"),
        ('{"schema_version": 99}', "schema version 99"),
        ('{"schema_version": 1}', "data"),
    ],
)
def test_an_invalid_result_is_refused(content: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(DataError, match=complaint):
        Result.load(tmp_path / "result.json")


def test_a_missing_gpu_is_refused(tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"trainer\.accelerator: gpu"):
        tiny_run("trainer.accelerator=gpu")


def test_a_run_can_reuse_the_noise_of_another(tiny_run: TinyRun, tmp_path: Path) -> None:
    first, path = tiny_run("noise=open_set", directory=tmp_path / "first")
    second, _ = tiny_run("noise=run", f"noise.path={path}", "method=ce", directory=tmp_path / "second")
    assert second.label_noise["hash"] == first.label_noise["hash"]
    assert second.label_noise["num_replaced"] == 40


def test_the_demos_three_methods_share_one_training(tiny_run: TinyRun, tmp_path: Path) -> None:
    """SLN and SLN-MO are two evaluations of one run; until correction starts, SLN-MO-LC is the very same run."""
    runs = {}
    for method in ("sln", "sln_mo_lc"):
        extra = ["correction.last_epochs=1"] if method == "sln_mo_lc" else []
        _, path = tiny_run(f"method={method}", *extra, directory=tmp_path / method)
        runs[method] = read_metrics(path / "metrics.csv")
    same = [key for key in runs["sln"][0] if key not in ("seconds", "images_per_second")]
    assert [runs["sln"][0][key] for key in same] == [runs["sln_mo_lc"][0][key] for key in same]
    assert [runs["sln"][1][key] for key in same] != [runs["sln_mo_lc"][1][key] for key in same]


def test_initial_weights_depend_on_the_seed_alone() -> None:
    from slnlab.config import compose

    first, again, other = (assemble.method(compose([f"seed={seed}"])).network.state_dict() for seed in (0, 0, 1))
    weights = "0.weight" if "0.weight" in first else next(key for key in first if first[key].ndim == 4)
    assert torch.equal(first[weights], again[weights])
    assert not torch.equal(first[weights], other[weights])
