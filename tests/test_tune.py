"""Studies: what chooses, what may not be read, and what a study that was stopped does when it goes on."""

from __future__ import annotations

import json
import logging
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
import pytest
from filelock import FileLock

from slnlab import optuna_search, tune
from slnlab.analysis.runs import find_runs
from slnlab.config import CONF_DIR, compose
from slnlab.data.digits import Digits
from slnlab.data.source import LabelledImages, Split
from slnlab.errors import ConfigError, Diverged, SlnlabError
from slnlab.result import Result, read_metrics
from slnlab.stopping import Stopped
from slnlab.study import Plan, Study, Trial
from slnlab.train import train

TINY = ["data.train_size=200", "trainer.max_epochs=2", "trainer.accelerator=cpu", "trainer.progress=false"]


class Guarded(Digits):
    """Digits whose test set must not be read."""

    def load(self, split: Split) -> LabelledImages:
        if split == "test":
            raise AssertionError("the test set was read")
        return super().load(split)


@pytest.fixture(autouse=True)
def in_a_place_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def fake_runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Runs that take no time: their held-out accuracy is what `sln.sigma` says, and `done` lists them."""
    done: list[str] = []

    def run(job: tune.Job, wait: bool = False, watch: Any = None) -> None:
        done.append(str(job))
        job.directory.mkdir(parents=True, exist_ok=True)
        accuracy = {"0.1": 0.5, "0.2": 0.625, "0.5": 0.625, "1": 0.25}[job.values["sln.sigma"]]
        rows = "\n".join(f"{epoch},{accuracy if epoch == 2 else 0}" for epoch in (1, 2))
        (job.directory / "metrics.csv").write_text(f"epoch,val/network/accuracy\n{rows}\n")

    monkeypatch.setattr(tune, "run", run)
    return done


def trials(plan: Plan) -> Study:
    """Only the trials and the choice."""
    study = Study.begin(plan)
    tune._search_grid(plan, study)
    study.choose()
    return study


def sigmas(*values: str) -> list[str]:
    return [f"sln.sigma={','.join(values or ('0.1', '0.5'))}", *TINY]


def test_the_study_as_typed(capsys: pytest.CaptureFixture[str]) -> None:
    """Chosen by the held-out noisy labels, retrained on everything, tested at the last epoch; all of it on a page."""
    tune.main([*sigmas("0.1", "0.5"), "seed=0,1", "--evaluator", "momentum", "optimizer.lr=0.05"])
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
        assert all(evaluator.test_accuracy is None for evaluator in result.evaluators.values())
    best = max(accuracies, key=lambda value: accuracies[value])
    assert study["chosen"] == {"sln.sigma": best}

    for final, seed in zip(study["finals"], (0, 1), strict=True):
        config = compose([*TINY, f"sln.sigma={best}", "optimizer.lr=0.05", f"seed={seed}"])
        same = train(config)  # finished: it is the run that slnlab.train would do
        assert Path(final["directory"]) == Path("runs") / "digits/sym-0.4/sln" / same.group / f"seed{seed}"
        last = {name: evaluator.test_accuracy.last for name, evaluator in same.evaluators.items()}  # type: ignore[union-attr]
        assert final["test_accuracy"] == last
        assert same.identity["data"]["noisy_val"] == 0

    page = (folder / "study.md").read_text()
    assert page.strip() in capsys.readouterr().out
    assert f"**Chosen: sln.sigma={best}.**" in page
    assert f"| SLN-MO | {100 * fmean(final['test_accuracy']['momentum'] for final in study['finals']):.2f} ± " in page
    written = {path: path.stat().st_mtime_ns for path in Path("runs").rglob("result.json")}
    tune.main([*sigmas("0.1", "0.5"), "seed=0,1", "--evaluator", "momentum", "optimizer.lr=0.05"])
    assert {path: path.stat().st_mtime_ns for path in Path("runs").rglob("result.json")} == written, "all was done"


def test_nothing_reads_the_test_set_before_the_choice_is_made() -> None:
    """With a source whose test split raises, only the final run fails, and the choice is on disk by then."""
    plan = Plan([*sigmas(), "data.source._target_=test_tune.Guarded"])
    with pytest.raises(AssertionError, match="the test set was read"):
        tune.tune(plan)
    study = json.loads((plan.directory / "study.json").read_text())
    assert [trial["state"] for trial in study["trials"]] == ["finished", "finished"]
    assert study["chosen"]
    assert study["finals"] == []


def test_equal_accuracies_choose_the_first_and_say_so(fake_runs: list[str]) -> None:
    study = trials(Plan(sigmas("1", "0.5", "0.2", "0.1")))
    assert study.chosen == {"sln.sigma": "0.5"}
    assert "As good as it, and later in the order of the study: sln.sigma=0.2." in study.page()
    # sqrt(0.625 * 0.375 / 20) = 0.1083
    assert "one standard error" not in study.page()
    assert "| 0.5 | 62.50 | chosen |" in study.page()


def test_what_chance_could_have_chosen_is_named(fake_runs: list[str]) -> None:
    """0.5 against 0.625 with ten samples: sqrt(0.625 * 0.375 / 10) = 0.153."""
    study = trials(Plan([*sigmas("1", "0.2", "0.1"), "data.noisy_val=10"]))
    assert study.chosen == {"sln.sigma": "0.2"}
    assert "(± 15.3 points with 10 held-out samples): sln.sigma=0.1." in study.page()


def test_the_mean_of_the_last_epochs_can_choose(fake_runs: list[str]) -> None:
    """The faked accuracies are 0 in the epoch before the last."""
    study = trials(Plan(sigmas("0.1", "0.2"), last=2, trial_seeds=[3, 4]))
    assert [trial.accuracies for trial in study.trials] == [[0.25, 0.25], [0.3125, 0.3125]]
    assert fake_runs == [f"sln.sigma={sigma} seed={seed}" for sigma in ("0.1", "0.2") for seed in (3, 4)]


def test_values_that_diverge_are_out_and_named(monkeypatch: pytest.MonkeyPatch, fake_runs: list[str]) -> None:
    fake = tune.run

    def run(job: tune.Job, *rest: Any) -> Any:
        if job.values["sln.sigma"] == "0.5":
            raise Diverged("the loss is nan in epoch 2")
        return fake(job, *rest)

    monkeypatch.setattr(tune, "run", run)
    study = trials(Plan(sigmas("0.5", "0.1")))
    assert study.chosen == {"sln.sigma": "0.1"}
    assert "| 0.5 | – | diverged: the loss is nan in epoch 2 |" in study.page()
    assert "Not among the choices: sln.sigma=0.5" in study.page()


def test_a_trial_that_fails_does_not_cost_the_others_but_the_choice(
    monkeypatch: pytest.MonkeyPatch, fake_runs: list[str]
) -> None:
    """A choice among what happened not to fail would be another study's."""
    fake = tune.run

    def run(job: tune.Job, *rest: Any, **more: Any) -> Any:
        if job.values["sln.sigma"] == "0.2":
            raise MemoryError("no room")
        return fake(job, *rest)

    monkeypatch.setattr(tune, "run", run)
    plan = Plan(sigmas("0.1", "0.2", "1"))
    with pytest.raises(SlnlabError, match=r"1 of 3 trials failed, so nothing is chosen:\n  sln.sigma=0.2: MemoryError"):
        tune.tune(plan)
    assert [name.split()[0] for name in fake_runs] == ["sln.sigma=0.1", "sln.sigma=1"]
    study = json.loads((plan.directory / "study.json").read_text())
    assert [trial["state"] for trial in study["trials"]] == ["finished", "failed", "finished"]
    assert study["chosen"] is None

    monkeypatch.setattr(plan, "final_seeds", [])
    assert tune.tune(plan, leave_out_failed=True).chosen == {"sln.sigma": "0.1"}


def test_what_another_process_does_is_left_to_it_and_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    """So that two people share a study's trials instead of waiting at the first one."""
    plan = Plan(sigmas())
    held = plan.trial({"sln.sigma": "0.1"}, 0).directory
    held.mkdir(parents=True)
    lock = FileLock(held / ".lock", thread_local=False)
    lock.acquire()

    def release() -> None:
        other = plan.trial({"sln.sigma": "0.5"}, 0).directory / "result.json"
        while not other.exists():
            time.sleep(0.05)
        lock.release()

    thread = threading.Thread(target=release)
    thread.start()
    with caplog.at_level(logging.INFO):
        study = trials(plan)
    thread.join()
    assert [trial.values["sln.sigma"] for trial in study.trials] == ["0.1", "0.5"], "in the order of the grid"
    assert [trial.state for trial in study.trials] == ["finished", "finished"]
    assert sum("another process" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize(
    ("overrides", "options", "says"),
    [
        (["sln.sgima=1,2"], {}, "sln.sgima"),
        (["sln.sigma=0.1,-1"], {}, "sln.sigma=-1"),
        (["sln.sigma=0.5"], {}, "nothing to choose from"),
        (["sln.sigma=interval(0.1,1)"], {}, "sln.sigma: a grid has no end in an interval; give --trials"),
        (["sln.sigma=tag(log,interval(0,1))"], {"trials": 3}, "a logarithmic interval begins above 0"),
        (["sln.sigma=0.1,1", "data.noisy_val=0"], {}, "data.noisy_val: 0"),
        (["sln.sigma=0.1,1", "data.noisy_val=10,20"], {}, "data.noisy_val: accuracies on different"),
        (["sln.sigma=0.1,1", "data.test=true"], {}, "data.test: leave it out"),
        (["sln.sigma=0.1,1", "force=true"], {}, "force: leave it out"),
        (["sln.sigma=0.1,1", "noise=sym,asym"], {}, "noise: accuracies on different held-out labels"),
        (["sln.sigma=0.1,1", "noise.seed=0,1"], {}, "noise.seed: accuracies on different held-out labels"),
        (["trainer.threads=1,2"], {}, "are the same run"),
        (["sln.sigma=0.1,1"], {"last": 61}, r"--last: must lie in \[1, 60\]"),
        (["sln.sigma=0.1,1"], {"evaluator": "momentun"}, r"they have network \(SLN\), momentum \(SLN-MO\)"),
        (["sln.sigma=0.1,1"], {"trials": 3}, "--trials 3: there are only 2 combinations"),
        (["sln.sigma=0.1,1", "hydra/launcher=basic"], {"trials": 2}, "leave the launcher out"),
        (["sln.sigma=0.1,1", "seed=a,b"], {}, "seeds are whole numbers"),
        (["sln.sigma=0.1,1", "experiment=digits_sigma"], {}, "noise: accuracies on different held-out labels"),
    ],
)
def test_what_cannot_work_is_said_before_anything_runs(overrides: list[str], options: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Plan(overrides, **options)
    assert not Path("runs").exists()


def test_the_evaluator_is_by_default_what_the_method_is_about() -> None:
    assert Plan(["sln.sigma=0.1,1"]).label == "SLN"
    assert Plan(["method=sln_mo_lc", "sln.sigma=0.1,1"]).evaluator == "momentum"


def test_methods_and_losses_can_be_searched_over_too() -> None:
    plan = Plan(["loss=gce,mae", "sln.sigma=0,0.5"])
    assert list(plan.grid())[1] == {"loss": "gce", "sln.sigma": "0.5"}
    assert plan.trial({"loss": "mae", "sln.sigma": "0.5"}, 0).config.loss.name == "mae"


def test_an_experiments_sweep_is_searched_over_and_the_typed_counts_more() -> None:
    plan = Plan(["experiment=digits_tune", "noise=asym"])
    assert plan.noisy_val == 260
    assert [values["sln.sigma"] for values in plan.grid()] == ["0.1", "0.2", "0.5", "1", "2"]
    assert plan.final_seeds == [0, 1]


def test_a_dry_run_prints_a_sweep_that_does_the_same_trials(capsys: pytest.CaptureFixture[str]) -> None:
    """Without torch, and without leaving anything."""
    overrides = [*sigmas(), "noise=asym"]
    run = f"main({[*overrides, '--dry-run']!r})"
    code = f"import sys; from slnlab.tune import main; {run}; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not Path("runs").exists()
    (command,) = [line for line in done.stdout.splitlines() if "slnlab.train -m" in line]
    typed = command.split("slnlab.train -m ")[1].split()
    assert "sln.sigma=0.1,0.5" in typed
    for value, job in zip(("0.1", "0.5"), Plan(overrides).jobs, strict=True):
        single = [text if not text.startswith("sln.sigma=") else f"sln.sigma={value}" for text in typed]
        assert tune.Job({}, single, compose(single)).directory == job.directory


def test_the_committed_page_is_what_the_study_wrote() -> None:
    folder = CONF_DIR.parent / "experiments" / "digits_study"
    written = (folder / "study.md").read_text().split("\n\n", 2)[2].strip()
    assert "**Chosen: " in written
    assert written in (folder / "README.md").read_text()


def test_the_readmes_commands_are_sound(capsys: pytest.CaptureFixture[str]) -> None:
    readme = (CONF_DIR.parent / "README.md").read_text()
    commands = re.findall(r"^python -m slnlab\.tune (.*)$", readme, re.MULTILINE)
    assert len(commands) >= 3
    for command in commands:
        tune.main([*shlex.split(command, comments=True), "--dry-run"])
        assert "runs/studies/" in capsys.readouterr().out


def test_a_launcher_does_the_same_runs(caplog: pytest.LogCaptureFixture) -> None:
    """Each value of a list is one value, and a run that failed under the launcher is a trial that failed."""
    overrides = [*sigmas("0.1", "0.5"), "seed=0,1", "hydra/launcher=basic"]
    with caplog.at_level(logging.INFO):
        study = tune.tune(Plan(overrides))
    assert [record.message for record in caplog.records if record.message.startswith("finished:")] == [], "not here"
    assert [trial.state for trial in study.trials] == ["finished", "finished"]
    assert [final.seed for final in study.finals] == [0, 1]
    here = tune.tune(Plan(overrides[:-1]))
    assert here == study, "found finished: the same directories"


@pytest.mark.parametrize(
    ("failure", "state"),
    [
        ("slnlab.errors.Diverged: the loss is nan in epoch 3 (step 12)", "diverged"),
        ("CUDA out of memory", "failed"),
        (None, "failed"),
    ],
)
def test_what_a_launcher_left_unfinished_is_not_done_again_here(
    failure: str | None, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here may be the login node of a cluster."""
    monkeypatch.setattr(tune, "run", None)
    plan = Plan([*sigmas("0.1", "0.5"), "hydra/launcher=basic"])
    directory = plan.trial({"sln.sigma": "0.1"}, 0).directory
    directory.mkdir(parents=True)
    if failure:
        (directory / "failure.txt").write_text(f"{failure}\n")
    trial = tune.run_trial(plan, {"sln.sigma": "0.1"})
    assert trial.state == state
    assert (failure or "the launcher has left no result") in (trial.message or "")


# Optuna


def optuna_plan(runs_dir: str) -> Plan:
    """Clean labels and learning rates of which some are far too small, so that some trials are hopeless."""
    overrides = ["optimizer.lr=tag(log,interval(0.00001,0.05))", "noise=none", "sln.sigma=0", *TINY]
    return Plan([*overrides, "data.batch_size=16", "trainer.max_epochs=3", f"runs_dir={runs_dir}"], trials=6)


def outcome(study: Study) -> list[tuple[Any, ...]]:
    return [(trial.values, trial.state, trial.accuracies, trial.message) for trial in study.trials]


def searched(plan: Plan) -> Study:
    study = Study.begin(plan)
    optuna_search.search(plan, study, tune.run_trial)
    return study


def test_optuna_prunes_and_a_study_that_was_stopped_is_the_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped within a run, whose checkpoint it goes on from, and between a run and its entry in the journal."""
    monkeypatch.setattr(optuna_search, "STARTUP_TRIALS", 2)
    whole = searched(optuna_plan("whole"))
    assert {trial.state for trial in whole.trials} == {"finished", "pruned"}, "else this test shows little"

    calls = {"report": 0, "set_user_attr": 0}

    def stopping(name: str, at: int) -> None:
        called = getattr(optuna.Trial, name)

        def call(self: optuna.Trial, *arguments: Any) -> None:
            calls[name] += 1
            if calls[name] == at:
                raise Stopped(signal.SIGTERM)
            called(self, *arguments)

        monkeypatch.setattr(optuna.Trial, name, call)

    stopping("report", 5)  # the second epoch of the second trial
    stopping("set_user_attr", 3)  # the third has just ended
    plan = optuna_plan("stopped")
    stops = 0
    while True:
        try:
            study = searched(plan)
            break
        except Stopped:
            stops += 1
    assert stops == 2
    assert outcome(study) == outcome(whole)
    assert outcome(searched(plan)) == outcome(whole), "all was done"

    # What became of a pruned trial
    pruned = next(trial for trial in study.trials if trial.state == "pruned")
    (directory,) = map(Path, pruned.directories)
    assert json.loads((directory / "pruned.json").read_text())["why"] == pruned.message
    assert not (directory / "result.json").exists()
    assert directory not in find_runs([Path("stopped")]).unfinished, "it was ended on purpose"
    states = [trial.state for trial in optuna_search._open(plan).trials]
    assert states.count(optuna.trial.TrialState.PRUNED) == [t.state for t in study.trials].count("pruned")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    train(plan.trial(pruned.values, 0).config)
    assert (directory / "result.json").exists(), "it can go on"
    assert not (directory / "pruned.json").exists()


def test_more_trials_are_added_to_the_same_study_and_a_torn_journal_is_mended(fake_runs: list[str]) -> None:
    plan = Plan(sigmas("0.1", "0.5", "1"), trials=3, prune=False)
    directory = plan.directory
    three = searched(plan)
    with (directory / "optuna.journal").open("ab") as file:
        file.write(b'{"op_code": 4, "wor')  # a machine was lost here
    plan.trials = 5
    five = searched(plan)
    assert five.trials[:3] == three.trials
    assert len(fake_runs) == 5
    assert plan.directory == directory


def test_a_trial_that_failed_is_tried_again(monkeypatch: pytest.MonkeyPatch, fake_runs: list[str]) -> None:
    plan = Plan(sigmas("0.1", "0.5", "1"), trials=3, prune=False)
    fake = tune.run
    broken = True

    def run(job: tune.Job, *rest: Any) -> Any:
        if broken and len(fake_runs) == 1:
            raise OSError("disk full")
        return fake(job, *rest)

    monkeypatch.setattr(tune, "run", run)
    assert [trial.state for trial in searched(plan).trials] == ["finished", "failed", "failed"]
    broken = False
    assert [trial.state for trial in searched(plan).trials] == ["finished"] * 3
    assert len(fake_runs) == 3


def test_without_optuna_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(SystemExit, match=r"error: --trials needs the extra: pip install 'slnlab\[tune\]'"):
        tune.main([*sigmas(), "--trials", "2"])
    assert not Path("runs").exists()


def test_nothing_finished_is_no_choice() -> None:
    study = Study.begin(Plan(sigmas()))
    study.trials = [Trial(values={"sln.sigma": "0.1"}, state="diverged", accuracies=[], directories=[], message="nan")]
    with pytest.raises(SlnlabError, match="no trial has finished"):
        study.choose()
