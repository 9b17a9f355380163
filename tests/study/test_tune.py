"""Whole studies: the choosing accuracy, the unread test set, and the printed result."""

from __future__ import annotations

import json
import logging
import re
import shlex
import subprocess
import sys
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import commands
import pytest
from studies import TINY, sigmas

from slnlab import tune
from slnlab.config import CONF_DIR, compose
from slnlab.data.digits import Digits
from slnlab.data.source import LabelledImages, Split
from slnlab.errors import SlnlabError
from slnlab.record.metrics import read_metrics
from slnlab.record.result import Result
from slnlab.study import runs
from slnlab.study.plan import Plan, StudyRun
from slnlab.train import train


class Guarded(Digits):
    """Digits whose test set must not be read."""

    def load(self, split: Split) -> LabelledImages:
        if split == "test":
            raise AssertionError("the test set was read")
        return super().load(split)


def test_a_study_runs_as_typed(capsys: pytest.CaptureFixture[str]) -> None:
    """Chosen by the held-out noisy labels, retrained on everything, tested at the last epoch; all of it on a page."""
    tune.main([*sigmas("0.1", "0.5"), "seed=0,1", "--weights", "momentum", "optimizer.lr=0.05"])
    (folder,) = Path("runs/studies").iterdir()
    study = json.loads((folder / "study.json").read_text())
    assert study["noisy_val"] == 20, "a tenth, as nothing else was said"
    accuracies = {}
    for trial in study["trials"]:
        (directory,) = trial["directories"]
        rows = read_metrics(Path(directory) / "metrics.csv")
        assert trial["accuracies"] == [rows[-1]["val/momentum/accuracy"]]
        accuracies[trial["values"]["sln.sigma"]] = trial["accuracies"][0]
        result = Result.load(Path(directory) / "result.json")
        assert result.identity["data"]["noisy_val"] == 20
        assert all(weights.test_accuracy is None for weights in result.rows.values())
    best = max(accuracies, key=lambda value: accuracies[value])
    assert study["chosen"] == {"sln.sigma": best}

    for final, seed in zip(study["finals"], (0, 1), strict=True):
        config = compose([*TINY, f"sln.sigma={best}", "optimizer.lr=0.05", f"seed={seed}"])
        same = train(config)  # finished: it is the run that slnlab.train would do
        assert Path(final["directory"]) == Path("runs") / "digits/sym-0.4/sln" / same.group / f"seed{seed}"
        last = {name: weights.test_accuracy.last for name, weights in same.rows.items()}  # type: ignore[union-attr]
        assert final["test_accuracy"] == last
        assert same.identity["data"]["noisy_val"] == 0

    page = (folder / "study.md").read_text()
    assert page.strip() in capsys.readouterr().out
    assert f"**Chosen: sln.sigma={best}.**" in page
    assert f"| SLN-MO | {100 * fmean(final['test_accuracy']['momentum'] for final in study['finals']):.2f} ± " in page
    written = {path: path.stat().st_mtime_ns for path in Path("runs").rglob("result.json")}
    tune.main([*sigmas("0.1", "0.5"), "seed=0,1", "--weights", "momentum", "optimizer.lr=0.05"])
    assert {path: path.stat().st_mtime_ns for path in Path("runs").rglob("result.json")} == written, "all was done"


def test_the_test_set_is_not_read_before_the_choice() -> None:
    """With a source whose test split raises, only the final run fails, and the choice is on disk by then."""
    plan = Plan([*sigmas(), "data.source._target_=test_tune.Guarded"])
    with pytest.raises(AssertionError, match="the test set was read"):
        tune.tune(plan)
    study = json.loads((plan.directory / "study.json").read_text())
    assert [trial["state"] for trial in study["trials"]] == ["finished", "finished"]
    assert study["chosen"]
    assert study["finals"] == []


def test_a_failed_trial_prevents_the_choice_but_not_other_trials(
    monkeypatch: pytest.MonkeyPatch, fake_runs: list[str]
) -> None:
    """A choice among what happened not to fail would be another study's."""
    fake = runs.train_run

    def train_run(run: StudyRun, *rest: Any, **more: Any) -> Any:
        if run.values["sln.sigma"] == "0.2":
            raise MemoryError("no room")
        return fake(run, *rest)

    monkeypatch.setattr(runs, "train_run", train_run)
    plan = Plan(sigmas("0.1", "0.2", "1"))
    with pytest.raises(SlnlabError, match=r"1 of 3 trials failed, so nothing is chosen:\n  sln.sigma=0.2: MemoryError"):
        tune.tune(plan)
    assert [name.split()[0] for name in fake_runs] == ["sln.sigma=0.1", "sln.sigma=1"]
    study = json.loads((plan.directory / "study.json").read_text())
    assert [trial["state"] for trial in study["trials"]] == ["finished", "failed", "finished"]
    assert study["chosen"] is None

    monkeypatch.setattr(plan, "final_seeds", [])
    assert tune.tune(plan, leave_out_failed=True).chosen == {"sln.sigma": "0.1"}


def test_a_dry_run_prints_the_equivalent_sweep(capsys: pytest.CaptureFixture[str]) -> None:
    """Without torch, but for the estimate of memory, and without leaving anything."""
    overrides = [*sigmas(), "noise=asym"]
    run = f"main({[*overrides, '--dry-run']!r})"
    code = (
        "import builtins\nimported = builtins.__import__\n"
        "def refusing(name, *rest, **more):\n"
        "    if name.startswith('torch'):\n        raise ImportError(name)\n"
        "    return imported(name, *rest, **more)\n"
        f"builtins.__import__ = refusing\nfrom slnlab.tune import main\n{run}"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not Path("runs").exists()
    (command,) = [line for line in done.stdout.splitlines() if "slnlab.train -m" in line]
    typed = command.split("slnlab.train -m ")[1].split()
    assert "sln.sigma=0.1,0.5" in typed
    for value, run in zip(("0.1", "0.5"), Plan(overrides).trial_runs, strict=True):
        single = [text if not text.startswith("sln.sigma=") else f"sln.sigma={value}" for text in typed]
        assert StudyRun({}, single, compose(single)).directory == run.directory


def test_a_users_own_options_can_be_searched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").mkdir()
    option = "# @package _global_\ndefaults: [digits, _self_]\ndata: {name: mine}\n"
    (tmp_path / "data" / "mine.yaml").write_text(option)
    tune.main(["--config-dir", str(tmp_path), "data=mine", "method=forward", "optimizer.lr=0.1,0.2", "--dry-run"])
    printed = capsys.readouterr().out
    assert printed.count("/mine/sym-0.4/forward/") == 2
    assert "-m slnlab.train -m 'hydra.searchpath=[" in printed, "and so for a launcher's runs"
    with pytest.raises(SystemExit, match="--config-dir: there is no directory nowhere"):
        tune.main(["--config-dir", "nowhere", "method=gce", "loss.q=0.3,0.7", "--dry-run"])


def test_dashed_options_work_as_for_train(capsys: pytest.CaptureFixture[str]) -> None:
    """-m is accepted, as a study has several values anyway; a key is no option."""
    for words in (["-m", *sigmas()], [*sigmas(), "--multirun"]):
        tune.main([*words, "--dry-run"])
        assert capsys.readouterr().out.count("trial ") == 2
    for words in (["--sln.sigma", "0.1,0.5"], ["--sln.sigma=0.1,0.5"]):
        with pytest.raises(SystemExit):
            tune.main([*words, "--dry-run"])
        assert f"{words[0]}: keys have no dashes: sln.sigma=0.1,0.5" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ([], "data.source.root: must be given"),
        (["data.source.root=nope"], "data.source.root: 'nope' is no folder"),
        (["runs_dir=${nowhere}", "data=digits"], "nowhere"),
    ],
)
def test_an_unusable_folder_is_one_message(typed: list[str], says: str) -> None:
    with pytest.raises(SystemExit, match=rf"^error: .*{says}"):
        tune.main(["data=folder", *typed, "sln.sigma=0.1,0.2", "--dry-run"])


def test_the_committed_page_matches_its_study() -> None:
    folder = CONF_DIR.parent / "experiments" / "digits_study"
    written = (folder / "study.md").read_text().split("\n\n", 2)[2].strip()
    assert "**Chosen: " in written
    assert written in (folder / "README.md").read_text()


def test_the_commands_of_the_tuning_page_work(capsys: pytest.CaptureFixture[str]) -> None:
    page = (CONF_DIR.parent / "docs" / "tuning.md").read_text()
    found = re.findall(r"^python -m slnlab\.tune (.*)$", page, re.MULTILINE)
    assert len(found) >= 3
    for command in found:
        tune.main([*shlex.split(command, comments=True), "--dry-run"])
        assert "runs/studies/" in capsys.readouterr().out


def test_a_launcher_makes_the_same_runs(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each value of a list is one value, and a run that failed under the launcher is a trial that failed."""
    warm = SimpleNamespace(Popen=lambda command: commands.Command(*command[2:]))  # `python -m slnlab.train …`
    monkeypatch.setattr(runs, "subprocess", warm)
    overrides = [*sigmas("0.1", "0.5"), "seed=0,1", "hydra/launcher=basic"]
    with caplog.at_level(logging.INFO):
        study = tune.tune(Plan(overrides))
    assert [record.message for record in caplog.records if record.message.startswith("finished:")] == [], "not here"
    assert [trial.state for trial in study.trials] == ["finished", "finished"]
    assert [final.seed for final in study.finals] == [0, 1]
    here = tune.tune(Plan(overrides[:-1]))
    assert here == study, "found finished: the same directories"
