"""Threshold samples: an extra class of surely wrong labels, and the cut that their AUM makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import open_dict

import slnlab
from slnlab.config import check, compose
from slnlab.data.threshold import threshold_rows
from slnlab.diagnose import main
from slnlab.errors import ConfigError
from slnlab.inference.diagnosis import diagnose
from slnlab.inference.threshold import threshold_margin
from slnlab.inference.trained_run import TrainedRun
from slnlab.train import train
from slnlab.training import assemble
from slnlab.training.probability_run import needed
from slnlab.training.settling import settle

OVERRIDES = ["data.train_size=240", "data.noisy_val=20", "noise.rate=0.2", "method=ce", "trainer.max_epochs=3"]
EXTRA = ["data.num_classes=11", "data.classes=null"]


def labels(*words: str) -> Any:
    data = assemble.datamodule(compose([*OVERRIDES, *words]))
    data.prepare_data()
    data.setup()
    return data


def test_two_sets_share_no_sample_and_have_the_size_of_a_class() -> None:
    pool = torch.arange(100, 320)
    one, two = (threshold_rows(pool, 10, number, 0) for number in (1, 2))
    assert len(one) == len(two) == 220 // 11
    assert not set(one.tolist()) & set(two.tolist())
    assert set(one.tolist()) | set(two.tolist()) <= set(pool.tolist())
    assert not torch.equal(one, threshold_rows(pool, 10, 1, 1))


def test_the_other_samples_keep_their_noisy_labels() -> None:
    plain, extra = labels(), labels("data.threshold=1", *EXTRA)
    chosen = extra.labels.given == 10
    assert int(chosen.sum()) == 220 // 11
    assert torch.equal(extra.labels.given[~chosen], plain.labels.given[~chosen]), "ten classes spoil each other"
    assert not chosen[extra.val_index].any()
    assert extra.labels.wrong[chosen].all()
    assert torch.equal(extra.labels.wrong[~chosen], plain.labels.wrong[~chosen])
    assert torch.equal(extra.labels.true, plain.labels.true)
    assert torch.equal(extra.noise_record.given, extra.labels.given)
    assert extra.noise_record.transition_matrix.shape == (11, 11), "methods compare their matrix with it"


@pytest.fixture(scope="module")
def margin(run: TrainedRun) -> np.ndarray:
    return threshold_margin(run, train)


def test_the_margin_is_that_above_the_99th_percentile_of_the_threshold_samples(
    run: TrainedRun, margin: np.ndarray
) -> None:
    one, two = (slnlab.load(run.directory / ".threshold" / str(number)).samples for number in (1, 2))
    limits = [np.quantile(each["aum"][each["given"] == 10], 0.99) for each in (one, two)]
    for row, found in enumerate(margin.tolist()):
        which = 1 if one["given"][row] == 10 else 0
        assert (one, two)[which]["given"][row] == run.samples["given"][row]
        assert found == pytest.approx((one, two)[which]["aum"][row] - limits[which], abs=1e-5)


def test_labels_below_the_threshold_are_suspected(
    run: TrainedRun, margin: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.directory.rglob("result.json")}
    main([str(run.directory), "--threshold-samples", "--no-images"])
    assert {path: path.stat().st_mtime_ns for path in run.directory.rglob("result.json")} == before
    assert f"; {(margin <= 0).sum()} of {len(margin)} are suspected" in capsys.readouterr().out
    found = diagnose(run, images=False, margin=margin)
    assert set(found.order[: (margin <= 0).sum()]) == set(np.flatnonzero(margin <= 0))
    with pytest.raises(ConfigError, match="threshold_margin needs --threshold-samples"):
        diagnose(run, "threshold_margin", images=False)


def test_the_key_is_part_of_a_run_only_if_it_is_given() -> None:
    assert "threshold" not in settle(compose()).identity["data"]
    with pytest.raises(ConfigError, match=r"data.threshold: 3 is not allowed: input should be 1 or 2"):
        check(compose(["data.threshold=3"]))


def test_imbalance_keeps_the_same_samples_beside_the_extra_class() -> None:
    plain, extra = labels("data.imbalance=4"), labels("data.imbalance=4", "data.threshold=1", *EXTRA)
    assert torch.equal(plain.labels.true, extra.labels.true)
    given = extra.labels.given
    assert torch.equal(given[given < 10], plain.labels.given[given < 10])


def test_a_balanced_run_is_refused(run: TrainedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    config = run.config.copy()
    with open_dict(config):
        config.data.sampling = "balanced"
    monkeypatch.setattr(run, "config", config)
    with pytest.raises(ConfigError, match="--threshold-samples: the run draws equally many of each label"):
        threshold_margin(run, train)


@pytest.mark.parametrize("transition", ["matrix.npy", "known", "estimated"])
def test_a_matrix_of_other_classes_is_refused_before_training(
    run: TrainedRun, monkeypatch: pytest.MonkeyPatch, transition: str
) -> None:
    def train(*_: object) -> None:
        raise InterruptedError("it trains")

    config = run.config.copy()
    with open_dict(config):
        config.method = compose(["method=forward"]).method
        config.method.transition = transition
    monkeypatch.setattr(run, "config", config)
    message = (
        r"^--threshold-samples: .* method.transition=matrix.npy has no row of it; train with transition=known or est"
    )
    error, said = (ConfigError, message) if transition == "matrix.npy" else (InterruptedError, "it trains")
    with pytest.raises(error, match=said):
        threshold_margin(run, train)  # type: ignore[arg-type]


def test_the_run_on_correct_labels_knows_no_extra_class(tmp_path: Path) -> None:
    """Instance-dependent noise is drawn before the threshold samples, by the run of the first training."""
    names = ",".join(f"'{name}'" for name in [*compose([]).data.classes, "x"])
    plain, extra = (
        next(needed(settle(compose(["noise=dependent", f"runs_dir={tmp_path}", *words])))).spec
        for words in ([], ["data.threshold=1", "data.num_classes=11", f"data.classes=[{names}]"])
    )
    assert extra.config.data.num_classes == plain.config.data.num_classes == 10
    assert extra.directory == plain.directory
