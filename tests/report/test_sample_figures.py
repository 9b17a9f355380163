"""Figures of the training samples (`samples.npz`), worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slnlab.analyze import main
from slnlab.errors import ConfigError, DataError
from slnlab.figures import density, dissection
from slnlab.figures.training_samples import TrainingSamples


def add_samples(run: Path, given, true, prediction, loss, margin=None, wrong=None, weights="network") -> Path:
    """Write `samples.npz`; true labels None are unknown."""
    columns = {"given": given, f"{weights}_prediction": prediction, f"{weights}_loss": loss}
    columns[f"{weights}_margin"] = np.zeros(len(loss)) if margin is None else margin
    if true is not None:
        columns |= {"true": true, "wrong": np.not_equal(given, true) if wrong is None else wrong}
    np.savez(run / "samples.npz", **{name: np.array(column) for name, column in columns.items()})
    return run


def test_the_density_separates_correct_from_wrong_labels(make_run, tmp_path, read_csv, capsys):
    # Correct labels have the probabilities .99, .97, .52, .02; wrong ones .07, .92. An interval is .05 wide.
    loss = -np.log([0.99, 0.97, 0.52, 0.02, 0.07, 0.92])
    add_samples(make_run("runs/ce"), [0, 0, 0, 0, 1, 1], [0] * 6, [0] * 6, loss)
    add_samples(make_run("runs/sln", method="sln"), [0, 0, 0, 0, 1, 1], [0] * 6, [0] * 6, np.full(6, np.log(2)))
    main(["density", str(tmp_path / "runs"), "--out", str(tmp_path / "out")])
    assert (
        "CE: mean probability of the given label 0.625 for correct labels (50.0% above 0.9)" in capsys.readouterr().out
    )
    rows = read_csv(tmp_path / "out/density.csv")
    assert {(row["label"], row["given_labels"], row["samples"]) for row in rows} == {
        (label, kind, samples) for label in ("CE", "SLN") for kind, samples in (("correct", "4"), ("wrong", "2"))
    }
    ce = [row for row in rows if row["label"] == "CE"]
    correct, wrong = ce[:20], ce[20:]
    assert [float(row["mean_probability"]) for row in (correct[0], wrong[0])] == pytest.approx([0.625, 0.495])
    assert [float(row["share_above_0.9"]) for row in (correct[0], wrong[0])] == [0.5, 0.5]
    filled = {float(row["from"]): float(row["density"]) for row in correct if float(row["density"])}
    assert filled == pytest.approx({0.0: 5, 0.5: 5, 0.95: 10})  # a quarter of the samples / .05
    assert {float(row["from"]): float(row["density"]) for row in wrong if float(row["density"])} == pytest.approx(
        {0.05: 10, 0.9: 10}
    )
    assert (tmp_path / "out/density.png").exists()
    assert (tmp_path / "out/density.svg").exists()


def test_probabilities_of_0_and_1_count(make_run, tmp_path, read_csv):
    add_samples(make_run("runs/ce"), [0, 0, 1], [0] * 3, [0] * 3, [0.0, 800.0, 800.0])
    density.figure([tmp_path / "runs"], tmp_path)
    rows = read_csv(tmp_path / "density.csv")
    assert [float(row["density"]) for row in rows[:20]] == [10] + 18 * [0] + [10]
    assert [float(row["density"]) for row in rows[20:]] == [20] + 19 * [0]


def test_runs_without_what_the_figure_needs_are_named(make_run, tmp_path):
    nothing = make_run("runs/nothing")
    unknown = add_samples(make_run("runs/unknown", noise="real"), [0, 1], None, [0, 1], [0.1, 0.2])
    clean = add_samples(make_run("runs/clean", noise="none", rate=0.0), [0, 1], [0, 1], [0, 1], [0.1, 0.2])
    with pytest.raises(DataError) as refused:
        density.figure([tmp_path / "runs"], tmp_path)
    message = str(refused.value)
    assert f"{nothing / 'samples.npz'}: is missing" in message
    assert f"{unknown / 'samples.npz'}: the true labels are unknown" in message
    assert f"{clean / 'samples.npz'}: none of the given labels are wrong" in message
    add_samples(make_run("runs/ce", seed=1), [0, 1], [0, 0], [0, 1], [0.1, 0.2])
    remarks = density.figure([tmp_path / "runs"], tmp_path)
    assert not any("not drawn" in line for line in density.figure([tmp_path / "runs"], tmp_path, where=["seed=1"]))
    assert sum("not drawn" in line for line in remarks) == 3
    with pytest.raises(ConfigError, match="weights: no run has 'best'"):
        density.figure([tmp_path / "runs"], tmp_path, weights="best")


def test_weights_choose_the_column(make_run, tmp_path, read_csv):
    run = make_run("runs/sln", method="sln")
    add_samples(run, [0, 1], [0, 0], [0, 1], [0.1, 0.2])
    with pytest.raises(DataError, match=r"samples.npz: has no column momentum_loss; it has given, network_prediction"):
        density.figure([run], tmp_path, weights="momentum")
    add_samples(run, [0, 1], [0, 0], [0, 1], -np.log([0.25, 0.5]), weights="momentum")
    density.figure([run], tmp_path, weights="momentum")
    rows = read_csv(tmp_path / "density.csv")
    assert [(row["label"], float(row["mean_probability"])) for row in rows[::20]] == [
        ("SLN-MO", pytest.approx(0.25)),
        ("SLN-MO", pytest.approx(0.5)),
    ]


def test_the_dissection_of_six_samples(make_run, tmp_path, read_csv, capsys):
    # In the order of the loss: ✓✓, ×✓, ✓×, ×× (image replaced, its class predicted), ✓✓, ××.
    add_samples(
        make_run("runs/ce", noise="open_set"),
        given=[0, 1, 2, 0, 1, 0],
        true=[1, 1, 0, 0, 1, 0],
        wrong=[True, False, True, False, False, True],
        prediction=[0, 1, 0, 1, 1, 0],
        loss=[3.0, 0.1, 0.2, 0.3, 2.0, 1.0],
    )
    main(["dissection", str(tmp_path / "runs"), "--intervals", "4", "--out", str(tmp_path)])
    said = "CE: 66.7% of the labels are correct in the half with the smallest loss, 50.0% in all"
    assert said in capsys.readouterr().out
    rows = read_csv(tmp_path / "dissection.csv")
    kinds = [f"label_{label}_prediction_{made}" for label in ("correct", "wrong") for made in ("correct", "wrong")]
    assert [(row["interval"], row["samples"], *(float(row[kind]) for kind in kinds)) for row in rows] == [
        ("1", "2", 0.5, 0, 0.5, 0),
        ("2", "2", 0, 0.5, 0, 0.5),
        ("3", "1", 1, 0, 0, 0),
        ("4", "1", 0, 0, 0, 1),
    ]
    assert float(rows[0]["small_loss_half_purity"]) == pytest.approx(2 / 3)
    assert float(rows[0]["correct_labels"]) == 0.5
    assert (tmp_path / "dissection.png").exists()
    assert (tmp_path / "dissection.svg").exists()


def test_the_margin_orders_samples_without_loss() -> None:
    correct = np.array([False, True, False, True])
    loss, margin = np.zeros(4), np.array([20.0, 40.0, 30.0, 50.0])
    found = dissection.dissect(TrainingSamples(loss, margin, correct, correct), 2)
    assert found.purity == 1


def test_the_intervals_of_a_dissection_are_checked(make_run, tmp_path):
    run = add_samples(make_run("runs/ce"), [0, 1], [0, 0], [0, 1], [0.1, 0.2])
    with pytest.raises(ConfigError, match=f"intervals: must be at most the 2 samples of {run}"):
        dissection.figure([run], tmp_path, intervals=3)
    with pytest.raises(ConfigError, match="intervals: must be at least 2, not 1"):
        dissection.figure([run], tmp_path, intervals=1)
