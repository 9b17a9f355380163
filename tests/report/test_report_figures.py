"""Files of `--out`, and the plot of accuracy against sigma."""

from __future__ import annotations

import math
import sys

import pytest
from matplotlib.image import imread

from slnlab.analysis import sigma
from slnlab.analysis.runs import find_runs, group_runs
from slnlab.analysis.sigma import sigma_plot
from slnlab.errors import DataError
from slnlab.report import report


def size(path) -> tuple[int, int]:
    """Width and height of a picture that is not blank."""
    pixels = imread(path)
    assert pixels.std() > 0.01
    return pixels.shape[1], pixels.shape[0]


def test_out_contains_tables_and_curves(make_run, tmp_path):
    for seed in (0, 1):
        for method in ("ce", "sln", "sln_mo_lc"):
            make_run(f"runs/{method}{seed}", [0.5, 0.6, 0.7], method=method, seed=seed)
    (make_run("runs/stopped", seed=2) / "result.json").unlink()
    out = tmp_path / "new" / "out"
    text, _ = report([tmp_path / "runs"], out)
    assert sorted(path.name for path in out.iterdir()) == ["curves.png", "results.csv", "table.csv", "table.md"]
    assert (out / "table.md").read_text(encoding="utf-8") == text + "\n"
    assert "1 unfinished" in text
    wide, high = size(out / "curves.png")
    assert wide == 1800
    assert 600 < high < 800


def test_each_noise_has_its_row_of_panels(make_run, tmp_path):
    make_run("runs/0")
    make_run("runs/1", noise="none", rate=0.0, loss_wrong=math.nan)
    make_run("runs/2", noise="csv", rate=0.0, tested=False)
    report([tmp_path / "runs"], tmp_path / "out")
    assert size(tmp_path / "out/curves.png")[1] > 1740


def test_many_configurations_fit_one_row(make_run, tmp_path):
    for i in range(9):
        make_run(f"runs/{i}", method="sln", sigma=i / 10)
    report([tmp_path / "runs"], tmp_path / "out", secondary=True)
    assert size(tmp_path / "out/curves.png")[0] == 1800


@pytest.mark.parametrize("content", [None, "", "epoch\n", "epoch,test/network/accuracy\n1,x\n", "epoch,a\n1\n"])
def test_unreadable_metrics_are_named(make_run, tmp_path, content):
    metrics = make_run("runs/0") / "metrics.csv"
    metrics.unlink()
    if content is not None:
        metrics.write_text(content)
    text, _ = report([tmp_path / "runs"], tmp_path / "out")
    assert f"not drawn in the curves: {metrics}" in text
    assert not (tmp_path / "out/curves.png").exists()
    assert (tmp_path / "out/results.csv").exists()


def test_seeds_with_different_metrics_are_not_averaged(make_run, tmp_path):
    make_run("runs/0", seed=0)
    metrics = make_run("runs/1", seed=1) / "metrics.csv"
    metrics.write_text("".join(metrics.read_text().splitlines(keepends=True)[:2]))
    make_run("runs/2", method="sln")
    text, _ = report([tmp_path / "runs"], tmp_path / "out")
    assert "another seed has other epochs or columns" in text
    assert (tmp_path / "out/curves.png").exists()


def test_a_file_as_out_is_refused(make_run, tmp_path):
    make_run("runs/0")
    (tmp_path / "out").write_text("")
    with pytest.raises(DataError, match="out: cannot be written"):
        report([tmp_path / "runs"], tmp_path / "out")


def test_the_sigma_sweep_has_numbers_and_a_figure(make_run, tmp_path, read_csv, monkeypatch, capsys):
    # Network 80 and 84 %: mean 82, std root 8; momentum 81 and 85 %.
    for noise in ("sym", "asym"):
        for value, accuracies in ((1, (0.7,)), (0, (0.5, 0.6)), (0.5, (0.80, 0.84))):
            for seed, accuracy in enumerate(accuracies):
                make_run(f"runs/{noise}{value}{seed}", [accuracy], method="sln", noise=noise, sigma=value, seed=seed)
    make_run("runs/ce", method="ce")
    out = tmp_path / "plots" / "sigma.png"
    monkeypatch.setattr(sys, "argv", ["sigma", str(tmp_path / "runs"), "--out", str(out)])
    sigma.main()
    assert "not drawn: 1 run without another that differs only in sln.sigma" in capsys.readouterr().out
    rows = read_csv(out.with_suffix(".csv"))
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
    assert size(out)[0] == 1800


def test_a_sigma_figure_of_one_noise_is_half_as_wide(make_run, tmp_path, read_csv):
    make_run("runs/0", method="sln", sigma=0)
    make_run("runs/1", method="sln", sigma=1.0)
    make_run("runs/2", method="sln", sigma=1)  # typed without a point, the same run
    assert sigma_plot([tmp_path / "runs"], tmp_path / "s.png") == ([], 0)
    assert [row["seeds"] for row in read_csv(tmp_path / "s.csv")] == ["0"] * 4
    assert size(tmp_path / "s.png")[0] == 900


def test_sigma_refuses_two_sweeps_in_one_panel(make_run, tmp_path):
    for i, (value, lr) in enumerate([(0, 0.1), (1, 0.1), (0, 0.2), (1, 0.2)]):
        make_run(f"runs/{i}", method="sln", sigma=value, settings={"optimizer": {"lr": lr}})
    with pytest.raises(DataError, match=r"digits, sym 0.4: .* not only in sln.sigma, but also in optimizer.lr; give"):
        sigma_plot([tmp_path / "runs"], tmp_path / "s.png")


def test_sigma_without_a_sweep_is_refused(make_run, tmp_path):
    make_run("runs/0", method="sln", sigma=0.5)
    with pytest.raises(DataError, match=r"no finished runs with test accuracies that differ in sln\.sigma"):
        sigma_plot([tmp_path / "runs"], tmp_path / "s.png")
    with pytest.raises(DataError, match=r"s\.csv: a picture ends in one of \.png, \.pdf, \.svg"):
        sigma_plot([tmp_path / "runs"], tmp_path / "s.csv")


def test_the_fixture_makes_runs_as_training_does(make_run, tmp_path):
    make_run("runs/0")
    (group,) = group_runs(find_runs([tmp_path]).runs)
    assert group.runs[0].metrics()[-1]["test/network/accuracy"] == 0.75
