"""Folds: `data.fold` trains without one; `slnlab diagnose --folds` judges labels by runs that have not seen them."""

from __future__ import annotations

import copy
import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import open_dict

import slnlab
from slnlab.config import check, compose
from slnlab.config.run_spec import RunSpec
from slnlab.data.folds import rows_of_fold
from slnlab.diagnose import main
from slnlab.errors import ConfigError, DataError
from slnlab.inference import folds, threshold
from slnlab.inference.diagnosis import diagnose
from slnlab.inference.images import run_images
from slnlab.inference.trained_run import TrainedRun
from slnlab.processes.batching import fold_size
from slnlab.schema.sample_counts import epoch_size
from slnlab.train import train
from slnlab.training.settling import settle

OVERRIDES = ["data.train_size=120", "data.noisy_val=20", "noise.rate=0.2", "method=ce", "trainer.max_epochs=2"]


@pytest.mark.parametrize(("samples", "count"), [(93, 2), (93, 5), (100, 7), (5, 5)])
def test_folds_part_the_samples_and_have_every_label(samples: int, count: int) -> None:
    given = torch.randint(3, (samples,), generator=torch.Generator().manual_seed(1))
    parts = [rows_of_fold(given, (number, count), 0) for number in range(count)]
    assert torch.cat(parts).sort().values.tolist() == list(range(samples))
    assert [len(part) for part in parts] == [fold_size(samples, number, count) for number in range(count)]
    if samples > 50:
        shares = torch.stack([given[part].bincount(minlength=3) for part in parts])
        assert (shares.amax(0) - shares.amin(0)).max() <= 1, "each label is spread evenly"
    assert not torch.equal(parts[0], rows_of_fold(given, (0, count), 1))


@pytest.fixture(scope="module")
def outside(run: TrainedRun) -> np.ndarray:
    return folds.out_of_fold(run, 3, train)


def test_networks_of_folds_that_have_learned_nothing_are_said(run: TrainedRun) -> None:
    constant = np.full((len(run.samples["given"]), 10), 0.05, np.float32)
    constant[:, 3] = 0.55
    remarks = diagnose(run, outside=constant, images=False).remarks
    assert any("they have learned too little, or most labels are wrong" in remark for remark in remarks)


def test_the_folds_of_an_earlier_training_are_replaced(run: TrainedRun, outside: np.ndarray) -> None:
    """Fold 0 of 3 lies where fold 0 of another training would."""
    forced = dict[str, bool]()

    def noted(spec: RunSpec, directory: Path, _: list[str]) -> None:
        forced[directory.name] = spec.container["force"]
        raise DataError("enough")

    for rate, expected in (("as it is", False), ("another", True)):
        changed = copy.copy(run)
        object.__setattr__(changed, "config", run.config.copy())
        if rate == "another":
            changed.config.optimizer.lr = 0.123
        for judge in (folds.out_of_fold, lambda r, k, t: threshold.threshold_margin(r, t)):
            forced.clear()
            with pytest.raises(DataError, match="enough"):
                judge(changed, 3, noted)  # type: ignore[operator]
            assert forced in ({"0-of-3": expected}, {"1": False}), "no threshold samples were trained here"


def test_each_sample_is_judged_by_a_run_that_has_not_seen_it(run: TrainedRun, outside: np.ndarray) -> None:
    index = run.samples["index"]
    judged = np.zeros(len(index), bool)
    for number in range(3):
        fold = slnlab.load(run.directory / ".folds" / f"{number}-of-3")
        unseen = ~np.isin(index, fold.samples["index"])
        images = run_images(run)
        with torch.inference_mode():
            expected = fold.model(images.image).softmax(1).numpy()
        in_fold = (outside == expected).all(1) | np.isclose(outside, expected, atol=1e-6).all(1)
        assert (unseen | ~in_fold).all(), "a run judges no label that it has seen"
        judged |= in_fold
    assert judged.all()
    np.testing.assert_allclose(outside.sum(1), 1, rtol=1e-5)


def test_finished_folds_serve_again_and_the_list_is_ranked_by_them(
    run: TrainedRun, outside: np.ndarray, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cleanlab")
    from cleanlab.count import num_label_issues
    from cleanlab.rank import get_label_quality_scores

    before = {path: path.stat().st_mtime_ns for path in run.directory.rglob("result.json")}
    assert len(before) == 4
    main([str(run.directory), "--folds", "3"])
    assert {path: path.stat().st_mtime_ns for path in run.directory.rglob("result.json")} == before
    said = capsys.readouterr().out
    given = run.samples["given"]
    assert "ranked by fold_loss: loss of a network that has not seen the label" in said
    contradicted = 100 * (outside.argmax(1) != given).mean()
    assert f"of 100 labels that it had not seen, a network contradicts {contradicted:.0f} %" in said
    assert f"cleanlab counts {num_label_issues(given, outside)} wrong labels out of fold" in said
    with (run.directory / "diagnosis" / "issues.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    losses = [float(row["fold_loss"]) for row in rows]
    assert losses == sorted(losses, reverse=True)
    place = {index: at for at, index in enumerate(run.samples["index"].tolist())}
    at = [place[int(row["index"])] for row in rows]
    np.testing.assert_allclose(losses, -np.log(outside[at, given[at]]), rtol=1e-4)
    scores = get_label_quality_scores(given, outside, method="normalized_margin", adjust_pred_probs=True)
    np.testing.assert_allclose([float(row["confident_learning"]) for row in rows], scores[at], rtol=1e-4)
    assert " by a network that has not seen it; " in rows[0]["reason"]
    for row, where in zip(rows, at, strict=True):
        others = outside[where].copy()
        others[given[where]] = -1
        assert row["suggested_label"] == run.classes[others.argmax()]


def test_without_folds_the_held_out_labels_say_how_many_are_wrong_at_most(run: TrainedRun) -> None:
    held_out = run.result.rows["network"].noisy_val_accuracy
    assert held_out is not None
    assert diagnose(run, images=False).unseen == (20, pytest.approx(1 - held_out.best.accuracy))


def test_fold_runs_are_in_no_table(run: TrainedRun, outside: np.ndarray) -> None:
    from slnlab.tables.runs import find_runs

    assert len(find_runs([run.directory]).runs) == 1


def test_wrong_folds_are_refused(run: TrainedRun) -> None:
    with pytest.raises(ConfigError, match=r"--folds: must lie in \[2, 100\], the number of training samples, not 1"):
        folds.check_folds(run, 1)
    for value in ("[3,3]", "[0,1]", "[-1,3]", "[0]"):
        with pytest.raises(ConfigError, match=r"data.fold: .* must be \[NUMBER, FOLDS\]"):
            check(compose([f"data.fold={value}"]))
    with pytest.raises(ConfigError, match=r"data.fold: 101 folds of 120 training samples leave some without"):
        check(compose([*OVERRIDES, "data.fold=[0,101]"]))


def test_the_key_is_part_of_a_run_only_if_it_is_given() -> None:
    assert "fold" not in settle(compose()).identity["data"]
    spec = settle(compose([*OVERRIDES, "data.fold=[1,3]"]))
    assert spec.identity["data"]["fold"] == [1, 3]
    assert epoch_size(spec.container["data"]) == 120 - 40 - 20


def test_a_run_from_before_a_feature_existed_gets_folds(run: TrainedRun) -> None:
    """Its config.yaml has no section of the feature, and one that is gone."""
    older = run.config.copy()
    with open_dict(older):
        del older["best_epoch"], older["class_balance"]
        older["label_wave"] = {"average": 3}
    spec = settle(folds.further(older))
    assert spec.identity == settle(folds.further(run.config)).identity
