"""`report --where`: the choice of runs by their configuration."""

from __future__ import annotations

import json
import tarfile

import pytest

from slnlab.errors import ConfigError, DataError
from slnlab.report import report
from slnlab.tables.runs import find_runs, group_runs
from slnlab.tables.selection import parse, select


@pytest.fixture
def runs(make_run, tmp_path):
    for noise in ("sym", "asym"):
        for sigma in (0, 0.5, 1.0):
            for seed in (0, 1, 10):
                make_run(f"{noise}{sigma}{seed}", method="sln", noise=noise, sigma=sigma, seed=seed)
    return find_runs([tmp_path]).runs


@pytest.mark.parametrize(
    ("where", "count"),
    [
        ([], 18),
        (["noise=sym"], 9),
        (["noise.name=sym"], 9),
        (["sln.sigma=1"], 6),  # 1 is 1.0
        (["sln.sigma=0.5,1.0", "seed=0"], 4),
        (["seed=0,1"], 12),
        (["seed=range(0,2)"], 12),
        (["noise=sym", "sln.sigma=0", "seed=10"], 1),
        (["noise='sym'", "data.train_size=null"], 9),
    ],
)
def test_runs_fit_all_conditions(runs, where, count):
    assert len(select(runs, parse(where))) == count


@pytest.mark.parametrize(("typed", "seeds"), [("0.7", [1]), ("null", [0]), ("0.7,null", [0, 1])])
def test_a_run_without_the_key_is_null(make_run, tmp_path, typed, seeds):
    """So that one value of a method can be kept beside methods that have no such key."""
    make_run("a")
    for seed, q in ((1, 0.7), (2, 0.9)):
        make_run(f"b{seed}", settings={"method": {"q": q}}, seed=seed)
    assert [run.result.seed for run in select(find_runs([tmp_path]).runs, parse([f"method.q={typed}"]))] == seeds


def test_a_studys_trials_are_not_shown_beside_its_final_runs(make_run, tmp_path):
    """They have no test accuracy; a method without any tested run keeps its lines."""
    untested = {"data": {"test": False, "noisy_val": 50}}
    make_run("trial0", tested=False, method="sln", sigma=0.5, settings=untested)
    make_run("trial1", tested=False, method="sln", sigma=1.0, settings=untested)
    make_run("begun", tested=False, settings=untested)
    make_run("other rate", tested=False, method="sln", sigma=1.0, rate=0.2, settings=untested)
    make_run("no trial", tested=False, method="sln", sigma=2.0, settings={"data": {"test": False}})
    both, _ = report([tmp_path])
    assert both.count("| SLN ") == 4
    assert "not shown" not in both
    make_run("final", method="sln", sigma=1.0)
    text, left_out = report([tmp_path], archive=tmp_path / "kept.tar.xz")
    assert text.count("| SLN ") == 3
    assert "| CE " in text
    assert "\n\nnot shown: 2 runs without a test, trials of a study" in text
    assert left_out == 0
    assert report([tmp_path], where=["data.test=false"])[0].count("| SLN ") == 4
    with tarfile.open(tmp_path / "kept.tar.xz") as kept:
        assert sum(name.endswith("result.json") for name in kept.getnames()) == 6, "no trial has to run again"


@pytest.mark.parametrize(
    ("key", "near"), [("noize", "noise"), ("sigma", "sln.sigma"), ("optimizer.lrr", "optimizer.lr"), ("zzz", None)]
)
def test_an_unknown_key_is_named_with_close_ones(runs, key, near):
    with pytest.raises(ConfigError, match=f"^where {key}: no run has this key") as raised:
        select(runs, parse([f"{key}=1"]))
    assert near is None or f"did you mean {near}" in str(raised.value)


def test_values_that_exist_are_named(runs):
    with pytest.raises(DataError) as raised:
        select(runs, parse(["noise=human", "seed=7,8", "sln.sigma=1"]))
    assert str(raised.value) == (
        "where noise=human seed=7,8 sln.sigma=1: no finished run fits; "
        "there are noise=asym,sym and seed=0,1,10 and sln.sigma=0,0.5,1"
    )


@pytest.mark.parametrize("text", ["seed", "seed=[", "+seed=1", "~seed", "seed=interval(0,1)", "noise=glob(*)", ""])
def test_other_texts_are_refused(text):
    with pytest.raises(ConfigError, match=r"where .*: write key=value or key=value,value"):
        parse([text])


def test_the_table_averages_the_chosen_seeds(make_run, tmp_path):
    for seed, last in ((0, 0.5), (1, 0.7), (1000, 0.9)):
        make_run(f"runs/{seed}", [last], seed=seed)
    text, _ = report([tmp_path], where=["seed=0,1,2"])
    assert "| 2 (0–1) | 60.00 ± 14.14 |" in text


def test_unfinished_runs_of_other_configurations_are_not_listed(make_run, tmp_path):
    make_run("runs/done")
    for name, content in (("sym", "sym"), ("asym", "asym"), ("damaged", None)):
        directory = make_run(f"runs/{name}", seed=1, noise=name)
        (directory / "result.json").unlink()
        text = "{" if content is None else json.dumps({"identity": {"seed": 1, "noise": {"name": content}}})
        (directory / "identity.json").write_text(text)
    text, _ = report([tmp_path / "runs"], where=["noise=sym"])
    assert f"2 unfinished: {tmp_path / 'runs/damaged'}, {tmp_path / 'runs/sym'}" in text


def test_label_files_are_told_apart_by_name(make_run, tmp_path, read_csv):
    # Two settings of two files; the digest of the file is in the identity, its name only in config.yaml.
    for name in ("sym0.4", "asym0.4"):
        run = make_run(
            f"runs/{name}", noise="csv", rate=0.0, draw=None, settings={"noise": {"path": f"digest of {name}"}}
        )
        (run / "config.yaml").write_text(f"noise: {{path: /somewhere/else/{name}.csv}}\n")
    groups = group_runs(find_runs([tmp_path]).runs)
    assert [(group.noise, group.setting) for group in groups] == [("csv asym0.4", ""), ("csv sym0.4", "")]
    text, _ = report([tmp_path / "runs"], tmp_path / "out")
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "### digits, csv asym0.4 (38.0 % of the labels wrong), 2 epochs",
        "### digits, csv sym0.4 (38.0 % of the labels wrong), 2 epochs",
    ]
    assert [line["noise"] for line in read_csv(tmp_path / "out/results.csv")] == ["csv asym0.4", "csv sym0.4"]
    (tmp_path / "runs/sym0.4/config.yaml").unlink()
    assert "### digits, csv (" in report([tmp_path / "runs/sym0.4"])[0]
