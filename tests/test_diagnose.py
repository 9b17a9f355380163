"""`slnlab diagnose`: one small run, its list of wrong labels, and the printed estimate."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from slnlab.config import compose
from slnlab.diagnose import lines, main
from slnlab.errors import ConfigError, DataError
from slnlab.inference.corrections import Policy, corrected, write_corrected
from slnlab.inference.diagnosis import Diagnosis, diagnose
from slnlab.inference.images import run_images, training_probabilities
from slnlab.inference.trained_run import TrainedRun
from slnlab.training import assemble

OVERRIDES = ("data.train_size=400", "data.test=false", "noise.rate=0.3", "method=ce", "trainer.max_epochs=6")


@pytest.fixture(scope="module")
def found(run: TrainedRun) -> Diagnosis:
    pytest.importorskip("cleanlab")
    return diagnose(run)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_loaded_run_has_all_dynamics(run: TrainedRun) -> None:
    assert {"aum", "ema_loss", "forgetting", "label_changes", "probability_mean", "probability_std"} <= set(run.samples)
    assert (run.samples["epochs_seen"] == 6).all()
    assert len({len(column) for column in run.samples.values()}) == 1


def test_streamed_probabilities_are_those_of_the_images(run: TrainedRun) -> None:
    images = run_images(run)
    assert (images.number.numpy() == run.samples["index"]).all()
    with torch.no_grad():
        expected = run.model(images.image).softmax(1)
    torch.testing.assert_close(training_probabilities(run), expected)


def test_the_score_of_training_finds_wrong_labels(found: Diagnosis) -> None:
    qualities = found.qualities()
    wrong = found.columns["wrong"]
    assert qualities["aum"].auroc == pytest.approx(roc_auc_score(wrong, -found.columns["aum"]))
    assert min(qualities[name].auroc for name in ("aum", "ema_loss", "loss", "confident_learning")) > 0.8
    assert abs(found.estimate.rate.value - wrong.mean()) < 0.15


def test_a_method_that_trusts_itself_is_said_to_have_a_narrow_interval(run: TrainedRun) -> None:
    def said() -> int:
        return sum(
            "the interval of the share may be too narrow" in remark for remark in diagnose(run, images=False).remarks
        )

    assert said() == 0
    method = run.config.method
    target, method._target_ = method._target_, "slnlab.methods.elr.ELR"
    try:
        assert said() == 1
    finally:
        method._target_ = target


def test_confident_learning_is_cleanlabs_own_score(found: Diagnosis) -> None:
    from cleanlab.rank import get_label_quality_scores

    probabilities = training_probabilities(found.run).numpy()
    expected = get_label_quality_scores(
        found.columns["given"], probabilities, method="normalized_margin", adjust_pred_probs=True
    )
    np.testing.assert_allclose(found.columns["confident_learning"], expected)


def test_the_command_writes_the_ranking_and_prints_the_estimate(
    run: TrainedRun, found: Diagnosis, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(run.directory), "--out", str(tmp_path / "out")])
    shown = capsys.readouterr().out
    assert f"about {found.estimate.rate} of your labels are wrong" in shown
    assert "AUROC" in shown
    rows = table(tmp_path / "out" / "issues.csv")
    assert [int(row["rank"]) for row in rows] == list(range(1, 401))
    probabilities = [float(row["mean_probability"]) for row in rows]
    assert probabilities == sorted(probabilities)
    assert sorted(int(row["index"]) for row in rows) == list(range(400))
    given = dict(zip(run.samples["index"].tolist(), run.samples["given"].tolist(), strict=True))
    assert all(int(row["given_label"]) == given[int(row["index"])] for row in rows)
    assert all(row["given_label"] != row["suggested_label"] for row in rows)
    assert all(row["given_label"] in row["reason"] for row in rows)
    stored: dict[str, Any] = json.loads((tmp_path / "out" / "diagnosis.json").read_text())
    assert stored["suspected"] == sum(row["suspected"] == "True" for row in rows)
    assert stored["wrong"]["value"] == found.estimate.rate.value
    np.testing.assert_allclose(np.sum(stored["transition"], axis=1), 1)


def test_without_images_there_is_no_confident_learning(run: TrainedRun) -> None:
    found = diagnose(run, images=False)
    assert "confident_learning" not in found.suspicions
    assert "aum" in found.suspicions
    with pytest.raises(ConfigError, match="needs the training images"):
        diagnose(run, "confident_learning", images=False)


def test_unknown_labels_give_no_qualities(found: Diagnosis) -> None:
    unknown = {name: column for name, column in found.columns.items() if name not in ("true", "wrong")}
    text = "\n".join(lines(found._replace(columns=unknown)))
    assert "AUROC" not in text
    assert "of your labels are wrong" in text


def test_missing_images_leave_the_other_scores(run: TrainedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: TrainedRun) -> None:
        raise DataError("the images are gone")

    monkeypatch.setattr("slnlab.inference.diagnosis.training_probabilities", missing)
    found = diagnose(run)
    assert any("the images are gone" in remark for remark in found.remarks)
    assert "aum" in found.suspicions


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--score", "luck"], "there is no 'luck'; the scores are aum, ema_loss"),
        (["--weights", "luck"], "has no 'luck'; it has network"),
    ],
)
def test_wrong_options_are_named(run: TrainedRun, words: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([str(run.directory), *words])
    assert message in str(stopped.value)


def test_corrected_labels_train_the_next_run(run: TrainedRun, found: Diagnosis, tmp_path: Path) -> None:
    file = tmp_path / "corrected.csv"
    write_corrected(labels := corrected(found), file)
    count = labels.relabelled
    assert count == found.estimate.suspected.sum() > 0
    data = assemble.datamodule(compose([*OVERRIDES, "noise=csv", f"noise.path={file}"]))
    data.prepare_data()
    data.setup()
    given = torch.from_numpy(run.samples["given"])
    changed = data.labels.given != given
    assert set(changed.nonzero().squeeze(1).tolist()) == set(found.order[:count].tolist())
    assert (data.labels.given[changed] == torch.from_numpy(found.suggested)[changed]).all()
    assert data.labels.wrong.float().mean() < found.columns["wrong"].mean(), "fewer labels are wrong than before"


def test_labels_of_unknown_noise_are_the_data_sets_own(found: Diagnosis, tmp_path: Path) -> None:
    """`noise=csv` compares the column `label` with the data."""
    labels = corrected(found, top=3)
    labels.data.noise_record = None
    write_corrected(labels, tmp_path / "three.csv")
    rows = table(tmp_path / "three.csv")
    assert [int(row["label"]) for row in rows] == found.columns["given"].tolist()
    changed = [n for n, row in enumerate(rows) if row["label_noisy"] != row["label"]]
    assert set(changed) == set(found.order[:3].tolist())


def test_no_file_is_written_that_no_run_can_read(found: Diagnosis, tmp_path: Path) -> None:
    """`noise=csv` has a label for each image of the whole set, and refuses data.imbalance."""
    labels, data = corrected(found, top=1), found.run.config.data
    data.imbalance = 3
    try:
        with pytest.raises(ConfigError, match=r"^--write: data\.imbalance=3 leaves a part of digits"):
            write_corrected(labels, tmp_path / "new.csv")
    finally:
        data.imbalance = None
    assert not (tmp_path / "new.csv").exists()


@pytest.mark.parametrize("policy", ["drop", "weight"])
def test_images_in_memory_are_neither_dropped_nor_weighted(found: Diagnosis, policy: Policy) -> None:
    with pytest.raises(ConfigError, match=f"--policy {policy}: .* use relabel"):
        corrected(found, policy)
