"""The figures of finished runs: the numbers behind each picture, worked out by hand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from matplotlib.image import imread

from slnlab.analyze import KINDS, main
from slnlab.errors import DataError
from slnlab.figures import correction, cost, curves, sgd_noise, sigma
from slnlab.figures.accuracy import Curve, _looks
from slnlab.figures.panels import found_groups


def size(path) -> tuple[int, int]:
    """Width and height of a picture that is not blank."""
    pixels = imread(path)
    assert pixels.std() > 0.01
    return pixels.shape[1], pixels.shape[0]


def test_the_sigma_sweep_has_numbers_and_a_figure(make_run, tmp_path, read_csv, capsys):
    # Network 80 and 84 %: mean 82, std root 8; momentum 81 and 85 %.
    for noise in ("sym", "asym"):
        for value, accuracies in ((1, (0.7,)), (0, (0.5, 0.6)), (0.5, (0.80, 0.84))):
            for seed, accuracy in enumerate(accuracies):
                make_run(f"runs/{noise}{value}{seed}", [accuracy], method="sln", noise=noise, sigma=value, seed=seed)
    make_run("runs/ce", method="ce")
    out = tmp_path / "plots" / "new"
    main(["sigma", str(tmp_path / "runs"), "--out", str(out)])
    assert "not drawn: 1 run without another that differs only in sln.sigma" in capsys.readouterr().out
    rows = read_csv(out / "sigma.csv")
    assert [(row["noise"], row["label"], row["sigma"], row["seeds"]) for row in rows] == [
        (noise, label, value, seeds)
        for noise in ("asym", "sym")
        for label in ("SLN", "SLN-MO")
        for value, seeds in (("0.0", "0 1"), ("0.5", "0 1"), ("1.0", "0"))
    ]
    asym = [(float(row["test_last_percent_mean"]), row["test_last_percent_std"]) for row in rows[:6]]
    assert [mean for mean, _ in asym] == pytest.approx([55, 82, 70, 56, 83, 71])
    assert [float(std) for _, std in asym if std] == pytest.approx([50**0.5, 8**0.5, 50**0.5, 8**0.5])
    assert asym[2][1] == asym[5][1] == ""  # one seed
    assert size(out / "sigma.png")[0] == 1800
    assert sorted(path.name for path in out.iterdir()) == ["sigma.csv", "sigma.png", "sigma.svg"]


def test_a_sigma_figure_of_one_noise_is_half_as_wide(make_run, tmp_path, read_csv):
    make_run("runs/0", method="sln", sigma=0)
    make_run("runs/1", method="sln", sigma=1.0)
    make_run("runs/2", method="sln", sigma=1)  # typed without a point, the same run
    assert sigma.figure([tmp_path / "runs"], tmp_path) == []
    assert [row["seeds"] for row in read_csv(tmp_path / "sigma.csv")] == ["0"] * 4
    assert size(tmp_path / "sigma.png")[0] == 900


def test_sigma_averages_over_noise_draws(make_run, tmp_path, read_csv):
    for value, accuracies in ((0, (0.5, 0.6)), (1, (0.7, 0.9))):
        for draw, accuracy in enumerate(accuracies):
            make_run(f"runs/{value}{draw}", [accuracy], method="sln", sigma=value, draw=draw)
    assert sigma.figure([tmp_path / "runs"], tmp_path) == []
    rows = [row for row in read_csv(tmp_path / "sigma.csv") if row["evaluator"] == "network"]
    assert [(row["seeds"], row["num_runs"]) for row in rows] == [("0", "2")] * 2
    assert [float(row["test_last_percent_mean"]) for row in rows] == pytest.approx([55, 80])
    assert [float(row["test_last_percent_std"]) for row in rows] == pytest.approx([50**0.5, 200**0.5])


def test_sigma_refuses_two_sweeps_in_one_panel(make_run, tmp_path):
    for i, (value, lr) in enumerate([(0, 0.1), (1, 0.1), (0, 0.2), (1, 0.2)]):
        make_run(f"runs/{i}", method="sln", sigma=value, settings={"optimizer": {"lr": lr}})
    with pytest.raises(DataError, match=r"digits, sym 0.4: .* not only in sln.sigma, but also in optimizer.lr; give"):
        sigma.figure([tmp_path / "runs"], tmp_path)
    assert sigma.figure([tmp_path / "runs"], tmp_path, where=["optimizer.lr=0.1"]) == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_says_that_no_run_fits(kind, make_run, tmp_path, capsys):
    make_run("runs/0", noise="sym")
    with pytest.raises(SystemExit) as ended:
        main([kind, str(tmp_path / "runs"), "--out", str(tmp_path), "--where", "noise=asym"])
    assert "noise=asym" in str(ended.value)


def test_sigma_without_a_sweep_is_refused(make_run, tmp_path):
    make_run("runs/0", method="sln", sigma=0.5)
    with pytest.raises(DataError, match=r"no finished runs with test accuracies that differ in sln\.sigma"):
        sigma.figure([tmp_path / "runs"], tmp_path)


def test_curves_have_the_mean_and_spread_of_each_epoch(make_run, tmp_path, read_csv):
    # CE 50 and 60 % in the first epoch: mean 55, std root 50.
    make_run("runs/0", [0.5, 0.75])
    make_run("runs/1", [0.6, 0.75], seed=1)
    make_run("runs/2", [0.5], method="sln_mo_lc", loss_wrong=2.0)
    assert curves.figure([tmp_path / "runs"], tmp_path / "out") == []
    rows = {(row["label"], row["measure"], row["epoch"]): row for row in read_csv(tmp_path / "out/curves.csv")}
    accuracy = rows["CE", "test/network/accuracy_percent", "1"]
    assert (float(accuracy["mean"]), float(accuracy["std"]), accuracy["runs"]) == pytest.approx((55, 50**0.5, "2"))
    assert float(rows["CE", "train/loss_correct_nats", "2"]["mean"]) == 0.5
    assert float(rows["SLN-MO-LC (network)", "train/loss_wrong_nats", "1"]["mean"]) == 2.0
    assert rows["SLN-MO-LC (network)", "test/network/accuracy_percent", "1"]["std"] == ""
    assert len(rows) == 2 * 3 + 4
    assert size(tmp_path / "out/curves.png")[0] == 1800


def test_curves_leave_out_what_was_never_tested_beside_tested_runs(make_run, tmp_path, read_csv):
    made = make_run("runs/source", noise="none", tested=False)  # such as the clean network of noise=dependent
    assert curves.figure([made], tmp_path / "alone") == []
    make_run("runs/ce")
    assert curves.figure([tmp_path / "runs"], tmp_path) == [f"not drawn in the curves: {made} was never tested"]
    assert {row["noise"] for row in read_csv(tmp_path / "curves.csv")} == {"sym"}


@pytest.mark.parametrize("secondary", [False, True])
def test_every_line_of_the_curves_has_its_own_look_and_number_of_runs(make_run, tmp_path, secondary):
    for method, count in (("sln", 1), ("sln_mo_lc", 2), ("dividemix", 3)):
        for seed in range(count):
            make_run(f"runs/{method}{seed}", method=method, seed=seed)
    drawn, remarks = curves._with_columns(found_groups([tmp_path / "runs"])[0])
    picture = curves._picture(drawn, secondary)
    panels, (legend,) = picture.axes, picture.legends
    looks = [
        (line.get_color(), line.get_linestyle(), line.get_linewidth(), line.get_marker()) for line in panels[0].lines
    ]
    assert len(set(looks)) == len(looks) == (7 if secondary else 5)
    hidden = ["DivideMix 1 (network) (n=3)", "SLN-MO-LC (network) (n=2)"] if secondary else []
    shown = ["DivideMix (n=3)", "DivideMix (ensemble) (n=3)", "SLN (n=1)", "SLN-MO (n=1)", "SLN-MO-LC (n=2)"]
    assert sorted(text.get_text() for text in legend.get_texts()) == sorted([*shown, *hidden])
    assert legend.get_title().get_text() == "bands: ± one standard deviation over n runs"
    assert panels[1].get_ylim()[1] < 2 < panels[2].get_ylim()[1], "the losses of wrong labels have their own scale"
    assert remarks == []


def test_a_legend_without_repeated_runs_explains_no_bands(make_run, tmp_path):
    make_run("runs/ce")
    drawn, _ = curves._with_columns(found_groups([tmp_path / "runs"])[0])
    (legend,) = curves._picture(drawn, False).legends
    assert ([text.get_text() for text in legend.get_texts()], legend.get_title().get_text()) == (["CE (n=1)"], "")


def test_six_curves_of_a_family_differ():
    looks = _looks(Curve(None, str(number), "sgd_noise", {}, "") for number in range(6))
    assert len(looks) == len({tuple(sorted(look.items())) for look in looks.values()}) == 6


def test_sgd_noise_draws_the_networks_of_its_methods(make_run, tmp_path, read_csv):
    for seed, accuracy in enumerate((0.5, 0.6)):
        make_run(f"runs/ce{seed}", [accuracy, 0.7], seed=seed)
    for sigma_ in (0.001, 0.01):
        settings = {"method": {"gradient_sigma": sigma_}}
        make_run(f"runs/parameters{sigma_}", [0.4, 0.8], method="sgd_noise_parameters", settings=settings)
    settings = {"method": {"output_sigma": 0.005}}
    make_run("runs/outputs", [0.3, 0.9], method="sgd_noise_outputs", settings=settings)
    make_run("runs/sln", [0.2, 0.95], method="sln", sigma=1.0)
    make_run("runs/corrected", method="sln_mo_lc")  # another method
    make_run("runs/other", method="sln", noise="asym")
    remarks = sgd_noise.figure([tmp_path / "runs"], tmp_path)
    assert remarks == ["not drawn: digits, asym 0.4 has no run of sgd_noise_parameters or sgd_noise_outputs"]
    rows = {(row["label"], row["epoch"]): row for row in read_csv(tmp_path / "sgd_noise.csv")}
    assert {label: float(row["mean"]) for (label, epoch), row in rows.items() if epoch == "1"} == pytest.approx(
        {
            "CE": 55,
            "SGD noise on outputs, σ = 0.005": 30,
            "SGD noise on parameters, σ = 0.001": 40,
            "SGD noise on parameters, σ = 0.01": 40,
            "SLN, σ = 1": 20,  # the network, not its momentum model
        }
    )
    assert float(rows["CE", "1"]["std"]) == pytest.approx(50**0.5)
    assert {row["measure"] for row in rows.values()} == {"test/network/accuracy_percent"}
    assert size(tmp_path / "sgd_noise.png")[0] == 900
    assert (tmp_path / "sgd_noise.svg").exists()


def test_sgd_noise_without_its_methods_is_refused(make_run, tmp_path):
    make_run("runs/ce")
    with pytest.raises(DataError, match="no finished runs of method=sgd_noise_parameters,sgd_noise_outputs with test"):
        sgd_noise.figure([tmp_path / "runs"], tmp_path)
    settings = {"method": {"output_sigma": 0.005}}
    untested = make_run("runs/noise", method="sgd_noise_outputs", settings=settings, tested=False)
    with pytest.raises(DataError, match=r"outputs with test") as refused:
        sgd_noise.figure([untested], tmp_path)
    assert f"{untested / 'metrics.csv'}: has no column test/network/accuracy" in str(refused.value)


def corrected(weighting: str, **more: object) -> dict[str, dict[str, object]]:
    return {"correction": {"enabled": True, "last_epochs": 2, "weighting": weighting, **more}}


def test_correction_draws_both_weightings_in_the_last_epochs(make_run, tmp_path, read_csv):
    accuracies = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    for seed in (0, 1):
        for weighting, last in (("loss", 0.8), ("inverse", 0.7)):
            values = [*accuracies[:-1], last + seed / 10]
            name = f"runs/{weighting}{seed}"
            make_run(name, values, method="sln_mo_lc", sigma=1.0, seed=seed, settings=corrected(weighting))
    without = {"correction": {"enabled": False}}
    make_run("runs/none", accuracies, method="sln", sigma=1.0, settings=without)
    make_run("runs/other", accuracies, method="sln", sigma=0.5, settings=without)  # of another σ
    assert correction.figure([tmp_path / "runs"], tmp_path, before=1) == []
    rows = read_csv(tmp_path / "correction.csv")
    labels = ["SLN-MO-LC weighting=loss", "SLN-MO-LC weighting=inverse", "SLN-MO, no correction"]
    assert [(row["label"], row["epoch"]) for row in rows] == [(label, f"{e}") for label in labels for e in (4, 5, 6)]
    assert [float(row["mean"]) for row in rows if row["epoch"] == "6"] == pytest.approx([86, 76, 61])  # momentum models
    assert [row["std"] and float(row["std"]) for row in rows if row["epoch"] == "6"] == pytest.approx(
        [50**0.5, 50**0.5, ""]
    )
    assert size(tmp_path / "correction.png")[0] == 900
    assert (tmp_path / "correction.svg").exists()


def test_correction_names_the_missing_weighting(make_run, tmp_path):
    make_run("runs/loss", method="sln_mo_lc", settings=corrected("loss"))
    with pytest.raises(DataError) as refused:
        correction.figure([tmp_path / "runs"], tmp_path)
    assert "no finished runs of method=sln_mo_lc correction.weighting=loss,inverse" in str(refused.value)
    assert "digits, sym 0.4 has no run with correction.weighting=inverse" in str(refused.value)


def test_correction_refuses_other_differences(make_run, tmp_path):
    make_run("runs/loss", method="sln_mo_lc", settings=corrected("loss"))
    make_run("runs/inverse", method="sln_mo_lc", settings=corrected("inverse", views="clean"))
    with pytest.raises(DataError, match=r"not only in correction.weighting, but also in correction.views"):
        correction.figure([tmp_path / "runs"], tmp_path)


def test_the_recorded_cost_is_a_multiple_of_ces(make_run, tmp_path, read_csv, capsys):
    # CE takes 2 and 3 s, and 99 s beside other work, median 3; SLN 3.3 s; SLN on other noise has no CE beside it.
    make_run("runs/0", [0.5], seconds=2.0)
    make_run("runs/1", [0.7], seed=1, seconds=3.0)
    make_run("runs/2", [0.6], seed=2, seconds=99.0)
    make_run("runs/sln", [0.8], method="sln", seconds=3.3)
    other = make_run("runs/other", [0.8], method="sln", noise="asym", seconds=3.3)
    main(["cost", str(tmp_path / "runs"), "--out", str(tmp_path / "out")])
    said = capsys.readouterr().out
    assert f"not drawn: digits, asym 0.4 ({other}, ...) has no run of method=ce to compare with" in said
    assert "machines differ and runs may have shared cores" in said
    rows = read_csv(tmp_path / "out/cost.csv")
    assert [(row["label"], row["cost_source"], float(row["cost"])) for row in rows] == [
        ("CE", "recorded", 1.0),
        ("SLN", "recorded", pytest.approx(1.1)),
        ("SLN-MO", "recorded", pytest.approx(1.1)),
    ]
    assert float(rows[0]["test_last_percent_mean"]) == pytest.approx(60)
    assert float(rows[0]["test_last_percent_std"]) == pytest.approx(10)
    assert rows[1]["test_last_percent_std"] == ""
    assert size(tmp_path / "out/cost.png")[0] == 900
    assert (tmp_path / "out/cost.svg").exists()


def test_the_recorded_cost_compares_equal_epochs_and_models(make_run, tmp_path, read_csv):
    small = {"model": {"name": "small"}}
    for name, accuracies, seconds, settings in (("1", [0.5], 2, {}), ("2", [0.5] * 2, 10, {}), ("s", [0.5], 4, small)):
        make_run(f"runs/ce{name}", accuracies, seconds=seconds, settings=settings)
        make_run(f"runs/sln{name}", accuracies, method="sln", seconds=1.5 * seconds, settings=settings)
    make_run("runs/long", [0.5] * 3, method="sln_mo_lc")
    remarks = cost.figure([tmp_path / "runs"], tmp_path)
    assert remarks[0] == "not drawn, as no run of method=ce has their epochs and model: SLN-MO-LC"
    assert remarks[1].startswith("sym 0.4: runs of 1 and 2 epochs share a panel")
    costs = {(row["label"], float(row["cost"])) for row in read_csv(tmp_path / "cost.csv")}
    assert costs == {("CE", 1.0), ("SLN", 1.5), ("SLN-MO", 1.5)}


def test_the_measured_cost_comes_from_the_file(make_run, tmp_path, read_csv):
    make_run("runs/sln", method="sln")
    make_run("runs/noise", method="sgd_noise_outputs")
    make_run("runs/corrected", method="sln_mo_lc")
    file = tmp_path / "costs.json"
    file.write_text('{"cost": {"sln": 1.05, "sln_mo_lc": 1.25}}')
    remarks = cost.figure([tmp_path / "runs"], tmp_path, file)
    (remark,) = remarks
    assert remark.startswith(
        f"not drawn, without a known cost: SGD noise on outputs; their methods have none in {file}"
    )
    costs = {row["label"]: (float(row["cost"]), row["cost_source"]) for row in read_csv(tmp_path / "cost.csv")}
    measured = "measured side by side"
    assert costs == {"SLN": (1.05, measured), "SLN-MO": (1.05, measured), "SLN-MO-LC": (1.25, measured)}
    cost.figure([tmp_path / "runs"], tmp_path, file, secondary=True)
    assert "SLN-MO-LC (network)" in {row["label"] for row in read_csv(tmp_path / "cost.csv")}


def test_more_rows_than_marks_are_drawn(make_run, tmp_path, read_csv):
    for number in range(26):  # two rows each
        make_run(f"runs/{number}", method="sln", settings={"optimizer": {"lr": number}})
    file = tmp_path / "costs.json"
    file.write_text('{"cost": {"sln": 1.05}}')
    assert cost.figure([tmp_path / "runs"], tmp_path, file) == []
    assert len(read_csv(tmp_path / "cost.csv")) == 52


def test_a_cost_needs_cross_entropy_or_a_file(make_run, tmp_path):
    run = make_run("runs/sln", method="sln")
    with pytest.raises(DataError, match=r"no finished run has a test accuracy and a cost\n.* has no run of method=ce"):
        cost.figure([run], tmp_path)
    file = tmp_path / "costs.json"
    file.write_text('{"cost": {"sln": 0}}')
    with pytest.raises(DataError, match=r"costs.json: not a file of .*costs are positive, not \{'sln': 0.0\}"):
        cost.figure([run], tmp_path, file)


def test_the_page_and_the_command_have_the_same_kinds():
    page = (Path(__file__).parents[2] / "docs/figures.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)`", page, re.MULTILINE) == list(KINDS)


def test_an_unknown_kind_is_one_message(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["curvs", "runs", "--out", "out"])
    assert ended.value.code == 2
    assert "'curvs' (choose from" in capsys.readouterr().err
