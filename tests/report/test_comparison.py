"""`report --compare`: paired differences by hand."""

from __future__ import annotations

from math import sqrt

import pytest

from slnlab.errors import ConfigError
from slnlab.report import report
from slnlab.tables.comparison import compare, reference_names
from slnlab.tables.runs import find_runs, group_runs
from slnlab.tables.table import make_rows


def compared(path, reference="ce"):
    """The comparisons of the one table, by title and setting."""
    rows = make_rows(group_runs(find_runs([path]).runs))
    found = compare(rows, reference_names(rows, reference))
    return {f"{each.row.title} {each.row.group.setting}".strip(): each for each in found}


def test_seeds_of_one_draw_are_the_pairs(make_run, tmp_path):
    # SLN − CE: 1, 2, 3 points by seed. Mean 2, standard error 1/√3, t(97.5 %, 2) = 4.3027, p = 1 − √(12/14).
    for seed, ce in enumerate((0.50, 0.60, 0.40)):
        make_run(f"ce{seed}", [ce], seed=seed)
        make_run(f"sln{seed}", [ce + (seed + 1) / 100], seed=seed, method="sln", sigma=1)
    found = compared(tmp_path)
    sln, momentum = found["SLN"], found["SLN-MO"]
    half = 4.302653 / sqrt(3)
    assert (sln.mean, sln.interval.low, sln.interval.high) == pytest.approx((2, 2 - half, 2 + half))
    assert (sln.pairs, sln.units, sln.unit) == (3, 3, "seed")
    assert momentum.mean == pytest.approx(3)
    p = 1 - sqrt(12 / 14)
    assert sln.interval.p == pytest.approx(p)
    assert sln.p == pytest.approx(p)  # Holm: the larger of two p-values is multiplied by 1 …
    assert momentum.p == pytest.approx(2 * momentum.interval.p)  # … and the smaller by 2
    assert found["CE"].remark == "reference"


def test_draws_are_the_units_if_there_are_several(make_run, tmp_path):
    # Draw 0: differences 1 and 3; draw 1: 5 and 7. Units 2 and 6: mean 4, standard error 2, one degree of freedom,
    # t(97.5 %, 1) = 12.706. Four independent pairs would have the interval 4 ± 4.11.
    for place, (seed, draw) in enumerate([(0, 0), (1, 0), (0, 1), (1, 1)]):
        make_run(f"ce{place}", [0.5 + seed / 10], seed=seed, draw=draw)
        make_run(f"sln{place}", [0.5 + seed / 10 + (1 + 2 * place) / 100], seed=seed, draw=draw, method="sln")
    sln = compared(tmp_path)["SLN"]
    assert (sln.mean, sln.pairs, sln.units, sln.unit) == (pytest.approx(4), 4, 2, "noise draw")
    assert sln.interval.high - sln.mean == pytest.approx(2 * 12.7062, rel=1e-4)


def test_only_runs_on_the_same_seed_and_labels_are_pairs(make_run, tmp_path):
    for seed in (0, 1):
        make_run(f"ce{seed}", [0.5], seed=seed)
    make_run("sln1", [0.7], seed=1, method="sln")
    make_run("sln2", [0.9], seed=2, method="sln")
    sln = compared(tmp_path)["SLN"]
    assert (sln.mean, sln.pairs, sln.interval, sln.p) == (pytest.approx(20), 1, None, None)
    make_run("other/ce", [0.5], draw=0)
    make_run("other/sln", [0.5], draw=1, method="sln")
    assert compared(tmp_path / "other")["SLN"].remark == "no run of the reference has the same seed and noisy labels"


def test_a_row_is_compared_at_its_own_setting(make_run, tmp_path):
    for size, accuracy in ((100, 0.3), (200, 0.5)):
        settings = {"data": {"train_size": size}}
        make_run(f"ce{size}", [accuracy], settings=settings)
        for sigma in (0.5, 1):
            make_run(f"sln{size}-{sigma}", [accuracy + sigma / 10], method="sln", sigma=sigma, settings=settings)
    found = compared(tmp_path)
    assert {name: each.mean for name, each in found.items() if name.startswith("SLN ")} == pytest.approx(
        {
            "SLN train_size=100, sigma=0.5": 5,
            "SLN train_size=100, sigma=1": 10,
            "SLN train_size=200, sigma=0.5": 5,
            "SLN train_size=200, sigma=1": 10,
        }
    )


def test_a_tuned_learning_rate_of_the_reference_is_no_obstacle(make_run, tmp_path):
    for size in (100, 200):
        for method, lr in (("ce", 0.01 * size), ("sln", 0.5)):
            settings = {"data": {"train_size": size}, "optimizer": {"lr": lr}}
            make_run(f"{method}{size}", [0.5], method=method, settings=settings)
    assert compared(tmp_path)["SLN train_size=100"].reference.group.settings["data.train_size"] == 100


def test_several_settings_of_the_reference_are_not_chosen_from(make_run, tmp_path):
    for lr in (0.1, 0.2):
        make_run(f"ce{lr}", settings={"optimizer": {"lr": lr}})
    make_run("sln", method="sln", settings={"optimizer": {"lr": 0.3}})
    found = compared(tmp_path)
    assert found["SLN"].remark == (
        "the reference has several settings, and 2 of its 2 settings fit this row; choose with --where"
    )
    assert found["CE lr=0.1"].remark == "reference"


def test_studies_are_compared_on_held_out_noisy_labels(make_run, tmp_path):
    make_run("ce", tested=False)
    make_run("sln", tested=False, method="sln")
    assert compared(tmp_path)["SLN"].remark == "no accuracy on held-out noisy labels"
    assert compared(tmp_path)["SLN"].measure == "noisy_val_last"


def test_the_reference_is_a_title_or_a_method(make_run, tmp_path):
    make_run("ce")
    make_run("sln", method="sln")
    make_run("lc", method="sln_mo_lc")
    rows = make_rows(group_runs(find_runs([tmp_path]).runs))
    assert reference_names(rows, "sln-mo") == {"SLN-MO"}
    assert reference_names(rows, "sln") == {"SLN"}
    assert reference_names(rows, "sln_mo_lc") == {"SLN-MO-LC"}
    with pytest.raises(ConfigError, match=r"compare=cee: is not among the rows CE, SLN, SLN-MO, SLN-MO-LC"):
        reference_names(rows, "cee")


def test_the_report_has_columns_and_a_file(make_run, tmp_path, read_csv):
    for seed, ce in enumerate((0.50, 0.60, 0.40)):
        make_run(f"runs/ce{seed}", [ce], seed=seed)
        make_run(f"runs/sln{seed}", [ce + (seed + 1) / 100], seed=seed, method="sln")
    make_run("runs/alone", noise="asym", method="sln")
    text, _ = report([tmp_path / "runs"], tmp_path / "out", reference="ce")
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    rows = [line for line in lines if line[0] in ("CE", "SLN")]
    assert [row[-3:] for row in rows] == [
        ["–", "–", "–"],
        ["reference", "–", "–"],
        ["+2.00 [-0.48, 4.48]", "0.074", "3"],
    ]
    assert "Not compared, as the reference has no run on this data and noise: SLN; SLN-MO." in text
    assert "draws are the independent\nunits; otherwise seeds are" in text
    lines = read_csv(tmp_path / "out/comparison.csv")
    (sln,) = (line for line in lines if line["noise"] == "sym" and line["label"] == "SLN")
    assert (sln["reference"], sln["measure"], sln["pairs"], sln["unit"]) == ("CE", "test_last", "3", "seed")
    assert float(sln["p_holm"]) == pytest.approx(1 - sqrt(12 / 14))
    assert [line["remark"] for line in lines][:2] == ["the reference has no run on this data and noise"] * 2
    report([tmp_path / "runs"], tmp_path / "plain")
    assert not (tmp_path / "plain/comparison.csv").exists()
