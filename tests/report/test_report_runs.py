"""Runs that the report finds or leaves out, and its messages."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from slnlab import report as report_module
from slnlab.errors import DataError
from slnlab.report import report
from slnlab.tables.runs import find_runs, group_runs
from slnlab.tables.selection import parse, select
from slnlab.tables.settings import differing_keys, short_names


def command(monkeypatch, capsys, *arguments) -> tuple[int, str, str]:
    """Exit code, output and message of the command line."""
    monkeypatch.setattr(sys, "argv", ["report", *map(str, arguments)])
    code = 0
    try:
        report_module.main()
    except SystemExit as stop:
        code, message = (1, stop.code) if isinstance(stop.code, str) else (stop.code, "")
    else:
        message = ""
    return code, capsys.readouterr().out, message


def test_a_missing_path_is_named(tmp_path, monkeypatch, capsys):
    code, out, message = command(monkeypatch, capsys, tmp_path / "nowhere")
    assert (code, out) == (1, "")
    assert message == f"error: {tmp_path / 'nowhere'}: there is no such file or directory"


def test_without_finished_runs_the_unfinished_are_counted(make_run, tmp_path, monkeypatch, capsys):
    for name in ("a", "b"):
        (make_run(f"runs/{name}") / "result.json").unlink()
    code, _, message = command(monkeypatch, capsys, tmp_path / "runs")
    assert code == 1
    assert message == f"error: no finished run in {tmp_path / 'runs'}; 2 unfinished run directories there"
    with pytest.raises(DataError, match="1 unfinished run directory there"):
        find_runs([tmp_path / "runs/a"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="0 unfinished run directories there"):
        find_runs([tmp_path / "empty"])


def test_unfinished_runs_are_listed(make_run, tmp_path, monkeypatch, capsys):
    make_run("runs/a", seed=0)
    unfinished = make_run("runs/b", seed=1)
    (unfinished / "result.json").unlink()
    wandb = tmp_path / "runs/a/wandb/files"
    wandb.mkdir(parents=True)
    (wandb / "config.yaml").write_text("")  # W&B's own
    code, out, _ = command(monkeypatch, capsys, tmp_path / "runs")
    assert code == 0
    assert f"\n1 unfinished: {unfinished}\n" in out


def test_results_are_found_by_directory_and_by_file(make_run, tmp_path):
    a, b = make_run("runs/x/a", seed=0), make_run("runs/y/deep/b", seed=1)
    assert {run.directory.path for run in find_runs([tmp_path / "runs"]).runs} == {a, b}
    assert [run.directory.path for run in find_runs([b / "result.json"]).runs] == [b]
    assert [run.directory.path for run in find_runs([b]).runs] == [b]


def test_a_run_found_twice_counts_once(make_run, tmp_path):
    run = make_run("runs/a")
    shutil.copytree(run, tmp_path / "copy")
    found = find_runs([tmp_path / "runs", run, run / "result.json", tmp_path / "copy"])
    assert len(found.runs) == 1
    assert found.remarks() == []


def test_contradicting_results_of_one_run_are_refused(make_run, tmp_path, monkeypatch, capsys):
    first, second = make_run("a", [0.5, 0.6]), make_run("b", [0.5, 0.7])
    code, out, message = command(monkeypatch, capsys, first, second)
    assert (code, message) == (1, "error: 1 result left out, see above")
    assert "| 60.00 |" in out.replace("  ", " ")
    assert f"left out: {second / 'result.json'}: another result of the run in {first}, which counts instead" in out
    assert "| 70.00 |" in report([second, first])[0].replace("  ", " ")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "cannot be read as a result"),
        ("", "cannot be read as a result"),
        ("[1]", "has schema version None"),
        ('{"schema_version": 99}', "has schema version 99"),
        ('{"schema_version": 1}', "is no result of slnlab: data"),
    ],
)
def test_a_corrupt_or_foreign_result_is_left_out(make_run, tmp_path, monkeypatch, capsys, content, why):
    make_run("runs/a", seed=0)
    bad = make_run("runs/b", seed=1) / "result.json"
    bad.write_text(content)
    code, out, message = command(monkeypatch, capsys, tmp_path / "runs")
    assert (code, message) == (1, "error: 1 result left out, see above")
    assert "1 (0)" in out
    assert f"left out: {bad}: {why}" in out
    with pytest.raises(DataError, match=f"no finished run in .*; 0 unfinished(.|\n)*{why}"):
        find_runs([bad])


def test_groups_are_ordered_as_in_the_paper(make_run, tmp_path):
    make_run("1", method="sln_mo_lc", sigma=1.0)
    make_run("2", method="sln", sigma=10)
    make_run("3", method="sln", sigma=2.0)
    make_run("4", method="ce")
    make_run("5", method="ce", rate=0.2)
    make_run("6", method="ce", noise="asym")
    make_run("7", method="ce", data="cifar10", noise="none", rate=0.0)
    groups = group_runs(find_runs([tmp_path]).runs)
    assert [(g.first.data, g.noise, g.first.method, g.setting) for g in groups] == [
        ("cifar10", "none", "ce", ""),
        ("digits", "asym 0.4", "ce", ""),
        ("digits", "sym 0.2", "ce", ""),
        ("digits", "sym 0.4", "ce", ""),
        ("digits", "sym 0.4", "sln", "sigma=2"),
        ("digits", "sym 0.4", "sln", "sigma=10"),
        ("digits", "sym 0.4", "sln_mo_lc", ""),
    ]


def test_settings_name_the_differing_keys(make_run, tmp_path):
    make_run("1", settings={"data": {"train_size": 100}})
    make_run("2", settings={"data": {"train_size": 200}, "optimizer": {"name": "adam"}}, draw=1)
    make_run("3", rate=0.2)
    settings = [group.setting for group in group_runs(find_runs([tmp_path]).runs)]
    assert settings == ["", "train_size=100, optimizer=sgd", "train_size=200, optimizer=adam"]


def test_a_key_that_counts_only_when_on_has_its_value_of_off(make_run, tmp_path):
    """Identities lack it then, so that a new key leaves finished runs their identity."""
    make_run("off")
    make_run("on", settings={"class_balance": {"strength": 3.0}, "data": {"fold": [0, 5]}}, draw=1)
    runs = find_runs([tmp_path]).runs
    assert [group.full_setting for group in group_runs(runs)] == [
        "class_balance.strength=0, data.fold=null",
        "class_balance.strength=3, data.fold=[0, 5]",
    ]
    (off,) = select(runs, parse(["class_balance.strength=0"]))
    assert off.directory.path.name == "off"


def test_a_key_that_follows_from_a_typed_one_is_no_setting(make_run, tmp_path):
    for size in (100, 200):
        run = make_run(str(size), settings={"data": {"train_size": size}, "optimizer": {"momentum": size / 1000}})
        (run / "overrides.yaml").write_text(f"- data.train_size={size}\n")
    assert [group.setting for group in group_runs(find_runs([tmp_path]).runs)] == ["train_size=100", "train_size=200"]
    for size in (100, 200):  # both typed: both are shown
        (tmp_path / f"{size}/overrides.yaml").write_text(f"- data.train_size={size}\n- optimizer.momentum=0.1\n")
    assert group_runs(find_runs([tmp_path]).runs)[0].setting == "train_size=100, momentum=0.1"


def test_corrected_labels_are_counted_and_other_keys_follow_from_them(make_run, tmp_path):
    """One run before and one after a correction: its file, the contents and the number of images differ too."""
    make_run("before", settings={"data": {"labels": None, "num_train": 60}})
    after = make_run("after", settings={"data": {"labels": "3a77030747acd150", "num_train": 57}})
    (after / "overrides.yaml").write_text("- data.labels=corrected.csv\n")
    stored = json.loads((after / "result.json").read_text())
    stored["label_noise"]["corrections"] = {"changed": 2, "left_out": 3, "weighted": 0}
    (after / "result.json").write_text(json.dumps(stored))
    settings = [group.setting for group in group_runs(find_runs([tmp_path]).runs)]
    assert settings == ["labels=3a77 (2 changed, 3 left out)", "labels=null"]


def test_short_names_stay_unambiguous():
    names = short_names(["sln.sigma", "noise.rate", "method.rate", "optimizer.name", "correction.enabled"])
    assert names == {
        "sln.sigma": "sigma", "noise.rate": "noise.rate", "method.rate": "method.rate", "optimizer.name": "optimizer",
        "correction.enabled": "correction",
    }  # fmt: skip


def test_a_noise_seed_that_draws_nothing_makes_no_second_run(make_run, tmp_path):
    first = make_run("a", noise="dependent", draw=None, noise_seed=0)
    second = make_run("b", noise="dependent", draw=None, noise_seed=1)
    found = find_runs([tmp_path])
    assert len(found.runs) == 1
    assert found.remarks() == [
        f"counted once: {second}: has the seed and the labels of {first}; noise.seed draws nothing here"
    ]
    assert found.left_out == []


def test_a_run_made_again_with_the_same_numbers_counts_once(make_run, tmp_path):
    first, second = make_run("a", seconds=3.0), make_run("b", seconds=4.0)
    found = find_runs([tmp_path])
    assert len(found.runs) == 1
    assert found.remarks() == [f"counted once: {second}: repeats the numbers of {first}"]
    assert found.left_out == []


def test_source_runs_of_other_noise_draws_are_one_configuration(make_run, tmp_path):
    for draw in (0, 1):
        source = json.loads((make_run(f"sln{draw}", method="sln", draw=draw) / "result.json").read_text())["group"]
        make_run(f"ce{draw}", draw=draw, settings={"init": {"from": [f"sln/{source}/seed0"]}})
    other = json.loads((make_run("other", method="sln", sigma=0.5) / "result.json").read_text())["group"]
    make_run("ce-other", settings={"init": {"from": [f"sln/{other}/seed0"]}})
    found = find_runs([tmp_path])
    sizes = [len(group.runs) for group in group_runs(found.runs) if group.first.method == "ce"]
    assert sorted(sizes) == [1, 2]  # another sigma of the source remains another configuration
    alone = find_runs([tmp_path / "ce0", tmp_path / "ce1"])  # nothing is known of their sources
    assert len(group_runs(alone.runs)) == 2


def test_records_of_other_noise_draws_are_one_configuration(make_run, tmp_path):
    for draw in (0, 1):
        make_run(str(draw), noise="run", draw=draw, noise_seed=0, settings={"noise": {"path": f"digest{draw}"}})
    (group,) = group_runs(find_runs([tmp_path]).runs)
    assert group.draws == [0, 1]


def test_records_of_another_class_map_are_another_configuration(make_run, tmp_path):
    """A record says how it was made; those of earlier versions do not."""
    for draw, options in enumerate(
        ('{"class_map": "next"}', '{"class_map": "next"}', '{"class_map": {"0": "1"}}', None)
    ):
        path = make_run(str(draw), noise="run", draw=draw, noise_seed=0, settings={"noise": {"path": f"digest{draw}"}})
        result = json.loads((path / "result.json").read_text())
        result["label_noise"]["options"] = options
        (path / "result.json").write_text(json.dumps(result))
    assert sorted(len(group.runs) for group in group_runs(find_runs([tmp_path]).runs)) == [1, 1, 2]


def test_keys_of_a_differing_option_are_not_listed():
    sgd = {
        "seed": 0,
        "optimizer._target_": "SGD",
        "optimizer.name": "sgd",
        "optimizer.lr": 0.1,
        "optimizer.momentum": 0,
    }
    adam = {"seed": 1, "optimizer._target_": "Adam", "optimizer.name": "adam", "optimizer.lr": 0.2, "optimizer.eps": 0}
    assert differing_keys(sgd, adam) == {"optimizer.name", "optimizer.lr"}
    assert differing_keys({"a": 1}, {"b": None}) == {"a", "b"}
    assert differing_keys({"a": 1}, {"a": 1.0}) == set()


def test_the_report_starts_without_torch(make_run, tmp_path):
    make_run("runs/a", method="sln")
    script = (
        "import sys; from pathlib import Path; from slnlab.report import report; "
        f"report([Path({str(tmp_path)!r})]); light = 'matplotlib' not in sys.modules; "
        f"import slnlab.figures.sigma; report([Path({str(tmp_path)!r})], Path({str(tmp_path / 'out')!r})); "
        "print(light, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True False"


def test_the_report_does_not_change_result_json(make_run, tmp_path):
    path = make_run("runs/a") / "result.json"
    before = path.read_bytes()
    report([tmp_path / "runs"], Path(tmp_path / "out"))
    assert path.read_bytes() == before
    assert json.loads(before)["method"] == "ce"
