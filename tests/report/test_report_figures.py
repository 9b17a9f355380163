"""Files of `--out`."""

from __future__ import annotations

import math

import pytest
from matplotlib.image import imread

from slnlab.errors import DataError
from slnlab.figures.panels import epochs
from slnlab.report import main, report
from slnlab.tables.runs import find_runs, group_runs


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
    assert sorted(path.name for path in out.iterdir()) == [
        "curves.png",
        "results.csv",
        "table.csv",
        "table.md",
        "table.tex",
    ]
    assert (out / "table.md").read_text(encoding="utf-8") == text + "\n"
    assert "1 unfinished" in text
    wide, high = size(out / "curves.png")
    assert wide == 1800
    assert 600 < high < 800


def test_figures_have_the_formats_asked_for(make_run, tmp_path):
    make_run("runs/0")
    for out in ("a", "b"):
        report([tmp_path / "runs"], tmp_path / out, formats=["svg", "pdf"])
    assert sorted(path.suffix for path in (tmp_path / "a").glob("curves.*")) == [".pdf", ".svg"]
    assert (tmp_path / "a/curves.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / "a/curves.svg").read_bytes() == (tmp_path / "b/curves.svg").read_bytes()
    with pytest.raises(SystemExit):
        main([str(tmp_path / "runs"), "--format", "png,gif"])


def test_each_noise_has_its_row_of_panels(make_run, tmp_path):
    make_run("runs/0")
    make_run("runs/1", noise="none", rate=0.0, loss_wrong=math.nan)
    make_run("runs/2", noise="csv", rate=0.0)
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
    assert f"not drawn in the curves: {metrics}: has other epochs than {tmp_path / 'runs/0/metrics.csv'}" in text
    assert (tmp_path / "out/curves.png").exists()


def test_a_column_that_one_seed_lacks_leaves_the_others(make_run, tmp_path):
    for seed in (0, 1):
        metrics = make_run(f"runs/{seed}", [0.5, 0.75], seed=seed) / "metrics.csv"
    header, *lines = metrics.read_text().splitlines()
    metrics.write_text("\n".join([f"more,{header}", *(f"1,{line}" for line in lines)]))
    (group,) = group_runs(find_runs([tmp_path]).runs)
    columns = epochs(group)
    assert list(columns) == ["epoch", "train/loss_correct", "train/loss_wrong", "test/network/accuracy"]
    assert columns["test/network/accuracy"].tolist() == [[50, 75]] * 2


def test_a_file_as_out_is_refused(make_run, tmp_path):
    make_run("runs/0")
    (tmp_path / "out").write_text("")
    with pytest.raises(DataError, match="out: cannot be written"):
        report([tmp_path / "runs"], tmp_path / "out")


def test_the_fixture_makes_runs_as_training_does(make_run, tmp_path):
    make_run("runs/0")
    (group,) = group_runs(find_runs([tmp_path]).runs)
    assert group.runs[0].metrics()[-1]["test/network/accuracy"] == 0.75
