"""Means and deviations by hand, and the layout of tables."""

from __future__ import annotations

import json

import pytest

from slnlab.errors import DataError
from slnlab.report import report
from slnlab.tables.costs import cost_of
from slnlab.tables.layout import Table, _ranges
from slnlab.tables.markdown import _lines
from slnlab.tables.runs import find_runs


def lines_of(text: str) -> list[list[str]]:
    """The cells of the table rows in a Markdown text."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|") and ":-" not in line
    ]


def test_the_table_has_mean_and_sample_deviation(make_run, tmp_path):
    # Last epochs 90, 92, 97: mean 93, deviations -3, -1, 4, squares 26, / 2 = 13, root 3.606.
    # Means of both epochs 70, 72, 77: mean 73. Best epochs 90, 92, 97.
    for seed, last in enumerate((0.90, 0.92, 0.97)):
        make_run(f"runs/{seed}", [last - 0.4, last], seed=seed)
    text, left_out = report([tmp_path / "runs"])
    assert left_out == 0
    assert text.startswith("### digits, sym 0.4 (38.0 % of the labels wrong), 2 epochs\n\n| method")
    header, row = lines_of(text)
    assert header == ["method", "seeds", "last", "last 10", "oracle*", "memorised", "recovered", "AUROC", "s/epoch"]
    assert row == ["CE", "3 (0–2)", "93.00 ± 3.61", "73.00", "93.00", "25.0", "50.0", "0.875", "2.50"]
    assert "oracle*: at the best epoch, chosen on the test set, so not a result" in text
    assert "best val" not in text


def test_one_seed_has_no_deviation(make_run, tmp_path):
    make_run("runs/0", [0.5, 0.75], seed=4)
    assert lines_of(report([tmp_path])[0])[1][1:3] == ["1 (4)", "75.00"]


def test_seeds_and_noise_draws_are_averaged_together(make_run, tmp_path, read_csv):
    # 50, 60, 70, 80 %: mean 65, deviations -15, -5, 5, 15, squares 500, / 3, root 12.91.
    for place, (seed, draw) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        make_run(f"runs/{place}", [0.5 + place / 10], seed=seed, draw=draw)
    text, _ = report([tmp_path / "runs"], tmp_path / "out")
    header, row = lines_of(text)
    assert header[1:3] == ["runs", "last"]
    assert row[1:3] == ["4 (2 seeds × 2 noise draws)", "65.00 ± 12.91"]
    assert "Mind" not in text
    (line,) = read_csv(tmp_path / "out/table.csv")
    assert [line[key] for key in ("seeds", "noise_seeds", "num_runs")] == ["0 1", "0 1", "4"]
    assert len(set(line["group"].split())) == 2  # the names of their directories
    assert [line["noise_seed"] for line in read_csv(tmp_path / "out/results.csv")] == ["0", "1", "0", "1"]
    (tmp_path / "runs/3/result.json").unlink()
    assert lines_of(report([tmp_path / "runs"])[0])[1][1] == "3 (2 seeds, 2 noise draws)"


def test_other_noise_draws_of_another_method_are_pointed_out(make_run, tmp_path):
    make_run("0")
    make_run("1", method="sln", draw=1)
    assert "did not all train on the same noisy labels" in report([tmp_path])[0]


def test_mean_last_10_by_hand(make_run, tmp_path):
    make_run("runs/0", [0.0] * 5 + [0.5] * 9 + [1.0])  # (9 * 50 + 100) / 10
    assert lines_of(report([tmp_path])[0])[1][2:5] == ["100.00", "55.00", "100.00"]


def test_best_noisy_val_only_when_held_out(make_run, tmp_path):
    make_run("runs/0", [0.6, 0.9, 0.8], val=[0.5, 0.4, 0.5], seed=0)  # epoch 1: 60 %
    make_run("runs/1", [0.6, 0.7, 0.8], val=[0.3, 0.4, 0.2], seed=1)  # epoch 2: 70 %; 65 ± root 50
    text, _ = report([tmp_path])
    header, row = lines_of(text)
    assert row[header.index("best val")] == "65.00 ± 7.07"
    assert row[header.index("oracle*")] == "85.00"
    assert "best val: test accuracy at the epoch of best accuracy on held-out noisy labels" in text


def test_unmeasured_values_are_dashes(make_run, tmp_path):
    make_run("runs/0", seed=0, findings={"auroc": None, "memorised": None})
    make_run("runs/1", seed=1, findings={"memorised": None})
    make_run("runs/2", tested=False, method="sln")
    header, ce, sln, momentum = lines_of(report([tmp_path])[0])
    assert ce[header.index("AUROC")] == ce[header.index("memorised")] == "–"  # one seed of two is not a mean
    assert ce[header.index("recovered")] == "50.0"
    assert sln[2:5] == momentum[2:5] == ["–", "–", "–"]


def test_secondary_rows_only_when_asked_for(make_run, tmp_path, read_csv):
    make_run("runs/0", method="sln_mo_lc")
    make_run("runs/1", method="sln")
    make_run("runs/2", method="ce")

    def methods(text):
        return [line[0] for line in lines_of(text)[1:]]

    assert methods(report([tmp_path])[0]) == ["CE", "SLN", "SLN-MO", "SLN-MO-LC"]
    every = ["CE", "SLN", "SLN-MO", "SLN-MO-LC", "SLN-MO-LC (network)"]
    assert methods(report([tmp_path], secondary=True)[0]) == every
    report([tmp_path], tmp_path / "out")
    assert [line["label"] for line in read_csv(tmp_path / "out/table.csv")] == every
    assert [line["label"] for line in read_csv(tmp_path / "out/results.csv")] == every


def test_groups_with_equal_titles_are_distinguished(make_run, tmp_path):
    make_run("runs/0", [0.8], method="sln", sigma=0.5)
    make_run("runs/1", [0.7], method="sln", sigma=0.2)
    make_run("runs/2", [0.6], method="ce")
    header, *rows = lines_of(report([tmp_path])[0])
    assert header[1] == "setting"
    assert [(row[0], row[1], row[3]) for row in rows] == [
        ("CE", "", "60.00"),
        ("SLN", "sigma=0.2", "70.00"),
        ("SLN", "sigma=0.5", "80.00"),
        ("SLN-MO", "sigma=0.2", "71.00"),
        ("SLN-MO", "sigma=0.5", "81.00"),
    ]


def test_unverified_files_are_named_with_the_digest_of_their_pixels(make_run, tmp_path):
    run = make_run("runs/0", [0.8], data="cifar10 (unverified files)")
    result = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(json.dumps(result | {"unverified_pixels": "0123456789abcdef"}))
    make_run("runs/1", [0.8])
    text = report([tmp_path])[0]
    assert text.count("the training images have the SHA-256 0123456789ab….") == 1


def test_quality_shows_recall_and_calibration_as_means_over_runs(make_run, tmp_path, read_csv):
    for seed, recall in ((0, [1.0, 0.5, None]), (1, [0.8, 0.6, 0.9])):
        run = make_run(f"runs/{seed}", [0.8], method="ce", seed=seed)
        result = json.loads((run / "result.json").read_text())
        quality = {"class_recall": recall, "balanced_accuracy": 0.75, "ece": 0.1 + seed / 10, "nll": 1.5, "brier": 0.25}
        result["rows"]["network"]["test_quality"] = quality
        result["identity"]["data"]["classes"] = ["cat", "dog", "owl"]
        (run / "result.json").write_text(json.dumps(result))
    header, row = lines_of(report([tmp_path], tmp_path / "out", quality=True)[0])
    shown = dict(zip(header, row, strict=True))
    assert [shown[name] for name in ("balanced", "ECE", "NLL", "Brier")] == ["75.00", "0.150", "1.500", "0.250"]
    assert [shown[f"recall {name}"] for name in ("cat", "dog", "owl")] == ["90.0", "55.0", "–"]
    assert "ECE" not in lines_of(report([tmp_path])[0])[0]
    (line,) = read_csv(tmp_path / "out/table.csv")
    assert (line["balanced_accuracy_percent_mean"], line["nll_mean"]) == ("75.0", "1.5")


def test_no_cell_and_no_column_of_markdown_is_split():
    assert _lines(Table([], {"recall a|b": ["c|d"]})).splitlines()[::2] == [r"| recall a\|b |", r"|        c\|d |"]


def test_a_typed_loss_is_shown_even_if_nothing_else_differs(make_run, tmp_path):
    """A title says CE, whatever the loss is."""
    run = make_run("runs/0", [0.8], method="ce")
    config = json.loads((run / "result.json").read_text())
    config["identity"]["loss"] = {"name": "gce"}
    (run / "result.json").write_text(json.dumps(config))
    make_run("runs/1", [0.7], method="sln")
    assert "setting" not in lines_of(report([tmp_path])[0])[0]
    (run / "overrides.yaml").write_text("- loss=gce\n")
    assert [row[1] for row in lines_of(report([tmp_path])[0])[1:]] == ["loss=gce", "", ""]


def test_each_data_set_and_noise_has_its_table(make_run, tmp_path):
    make_run("runs/0")
    make_run("runs/1", noise="none", rate=0.0, findings={"memorised": None})
    make_run("runs/2", data="cifar10")
    headings = [line.split(" (")[0] for line in report([tmp_path])[0].splitlines() if line.startswith("#")]
    assert headings == ["### cifar10, sym 0.4", "### digits, none", "### digits, sym 0.4"]


def test_an_unfair_comparison_is_pointed_out(make_run, tmp_path):
    make_run("runs/0", [0.8], method="sln")
    make_run("runs/1", [0.5, 0.7], method="ce", settings={"data": {"train_size": 10}, "optimizer": {"lr": 1.0}})
    text, _ = report([tmp_path])
    assert "1–2 epochs" in text
    assert [row[1] for row in lines_of(text)] == ["epochs", "2", "1", "1"]
    assert "Mind: these rows differ in data.train_size, trainer.max_epochs." in text


def test_the_common_table_fits_a_terminal(make_run, tmp_path):
    for seed in range(10):
        make_run(f"a/{seed}", method="sln", seed=seed, val=[0.1, 0.2])
        make_run(f"a/{seed}-lc", method="sln_mo_lc", seed=seed, val=[0.1, 0.2])
    for seed in range(3):
        make_run(f"b/{seed}", method="sln", sigma=0.5, seed=seed)
        make_run(f"b/{seed}-other", method="sln", sigma=0.1, seed=seed)
    for folder in "ab":
        assert max(map(len, report([tmp_path / folder])[0].splitlines())) <= 120


@pytest.mark.parametrize(
    ("seeds", "text"), [([3], "3"), ([0, 1], "0–1"), ([0, 1, 2, 5], "0–2, 5"), ([1, 3, 4], "1, 3–4")]
)
def test_seed_ranges(seeds, text):
    assert _ranges(seeds) == text


@pytest.mark.parametrize(("imbalance", "difference", "shown"), [(None, 0.008, False), (None, 0.02, True), (9, 0, True)])
def test_the_balanced_accuracy_is_shown_for_imbalanced_classes(make_run, tmp_path, imbalance, difference, shown):
    for seed, last in enumerate((0.6, 0.7)):
        path = make_run(f"runs/{seed}", [last], seed=seed, settings={"data": {"imbalance": imbalance}}) / "result.json"
        content = json.loads(path.read_text())
        quality = {"class_recall": [], "balanced_accuracy": last - difference, "ece": 0, "nll": 0, "brier": 0}
        content["rows"]["network"]["test_quality"] = quality
        path.write_text(json.dumps(content))
    text, _ = report([tmp_path / "runs"])
    header, row = lines_of(text)
    assert ("balanced" in header) is shown is ("balanced: mean test accuracy over the classes" in text)
    if shown:
        assert row[header.index("balanced")] == f"{65 - 100 * difference:.2f} ± 7.07"


def test_results_csv_has_the_noise_rate_a_method_used(make_run, tmp_path, read_csv):
    path = make_run("runs/0") / "result.json"
    content = json.loads(path.read_text())
    content["noise_rate_used"] = {"value": 0.3, "source": "loss mixture"}
    content["transition_used"] = {
        "source": "estimated",
        "matrix": [[0.8, 0.2], [0.1, 0.9]],
        "max_error": 0.2,
        "mean_error": 0.05,
        "row_l1": [0.4, 0.1],
    }
    content["noise_rate_by_anchors"] = {"value": 0.3, "low": 0.2, "high": 0.5, "source": "anchor points", "error": -0.1}
    path.write_text(json.dumps(content))
    report([tmp_path / "runs"], tmp_path / "out")
    (line,) = read_csv(tmp_path / "out/results.csv")
    assert (line["noise_rate_by_anchors"], line["noise_rate_by_anchors_error"]) == ("0.3", "-0.1")
    assert (line["noise_rate_used"], line["noise_rate_source"]) == ("0.3", "loss mixture")
    assert line["transition_source"] == "estimated"
    assert (line["transition_max_error"], line["transition_mean_error"]) == ("0.2", "0.05")


def test_results_csv_holds_raw_values(make_run, tmp_path, read_csv):
    make_run("runs/0", [0.5, 1 / 3], method="sln", sigma=0.5, seed=7)
    report([tmp_path / "runs"], tmp_path / "out")
    network, momentum = read_csv(tmp_path / "out/results.csv")
    assert float(network["test_last"]) == 1 / 3
    assert float(network["test_oracle"]) == 0.5
    assert float(momentum["test_last"]) == 1 / 3 + 0.01
    group = network.pop("group")
    assert len(group) == 10
    assert group == momentum["group"]
    expected = {
        "data": "digits",
        "noise": "sym",
        "noise_rate": "0.4",
        "label": "SLN",
        "method": "sln",
        "evaluator": "network",
        "setting": "",
        "seed": "7",
        "epochs": "2",
        "test_best_noisy_val": "",
        "best_noisy_val_epoch": "",
        "oracle_epoch": "1",
        "given_accuracy": "0.6",
        "true_accuracy": "0.9",
        "memorised": "0.25",
        "recovered": "0.5",
        "auroc": "0.875",
        "average_precision": "0.75",
        "seconds_per_epoch": "8.5",
        "images_per_second": "100.0",
        "total_seconds": "3.0",
        "realised_rate": "0.38",
        "noise_hash": "abc0",
        "noise_rate_used": "",
        "noise_rate_source": "",
        "transition_source": "",
        "transition_max_error": "",
        "transition_mean_error": "",
        "git_commit": "c0ffee",
        "git_dirty": "False",
        "processor": "Abacus",
        "gpus": "",
        "directory": str(tmp_path / "runs/0"),
    }
    assert {key: network[key] for key in expected} == expected


def test_table_csv_is_the_aggregated_table(make_run, tmp_path, read_csv):
    for seed, last in ((0, 0.5), (2, 0.75)):  # mean 62.5, deviations 12.5, squares 312.5, root 17.678
        make_run(f"runs/{seed}", [last], seed=seed)
    report([tmp_path / "runs"], tmp_path / "out")
    (row,) = read_csv(tmp_path / "out/table.csv")
    assert (row["label"], row["seeds"], row["num_seeds"], row["epochs"]) == ("CE", "0 2", "2", "1")
    assert float(row["test_last_percent_mean"]) == 62.5
    assert float(row["test_last_percent_std"]) == pytest.approx(17.67767, abs=1e-5)
    assert row["test_best_noisy_val_percent_mean"] == row["test_best_noisy_val_percent_std"] == ""
    assert (float(row["memorised_percent_mean"]), float(row["auroc_mean"])) == (25.0, 0.875)
    assert float(row["seconds_per_epoch_mean"]) == 2.5
    assert float(row["seconds_per_epoch_std"]) == pytest.approx(2**0.5)


def test_the_cost_of_another_kind_of_run_is_not_known(make_run, tmp_path):
    """Costs are those of a method alone, for as many epochs as cross entropy; a run needed first counts as one more."""
    make_run("runs/0", [0.5, 0.6], method="ce")
    kinds = {
        "alone": {},
        "first": {"init": {"from": ["sln/a/seed0"]}},
        "sharp": {"sam": {"rho": 0.05}},
        "estimated": {"method": {"transition": "estimated"}},
    }
    for name, settings in kinds.items():
        make_run(f"runs/{name}", [0.5, 0.6], method="sln", settings=settings)
    make_run("runs/long", [0.5] * 9, method="sln")
    found = {}
    for run in find_runs([tmp_path / "runs"]).runs:
        found[run.directory.path.name] = cost_of(run.result, {"ce": 1.0, "sln": 1.05}, {2})
    assert found == {"0": 1.0, "alone": 1.05, "first": None, "sharp": None, "estimated": 2.05, "long": None}
    assert cost_of(run.result, {"ce": 1.0, "sln": 1.05}, {2, 9}) is None, "cross entropy of which length?"
    file = tmp_path / "costs.json"
    file.write_text('{"cost": {"ce": 1.0, "sln": 1.05}}')
    header, *rows = lines_of(report([tmp_path / "runs"], costs=file)[0])
    assert sorted(row[header.index("cost")] for row in rows) == sorted(["1.00", *["1.05", "2.05", "–", "–", "–"] * 2])


def test_costs_are_a_column(make_run, tmp_path):
    make_run("runs/0", method="sln")
    make_run("runs/1", method="ce")
    costs = tmp_path / "costs.json"
    costs.write_text('{"seconds": {"ce": [2.0]}, "cost": {"ce": 1.0, "co_teaching": 1.884}}')
    header, *rows = lines_of(report([tmp_path / "runs"], costs=costs)[0])
    assert {row[0]: row[header.index("cost")] for row in rows} == {"CE": "1.00", "SLN": "–", "SLN-MO": "–"}
    assert "cost" not in lines_of(report([tmp_path / "runs"])[0])[0]


@pytest.mark.parametrize("content", [None, "", "[]", '{"cost": 3}', '{"cost": {"ce": "much"}}'])
def test_a_file_without_costs_is_named(make_run, tmp_path, content):
    make_run("runs/0")
    costs = tmp_path / "costs.json"
    if content is not None:
        costs.write_text(content)
    with pytest.raises(DataError, match=r"costs\.json"):
        report([tmp_path / "runs"], costs=costs)
