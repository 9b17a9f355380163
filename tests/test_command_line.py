"""Commands as typed by a user, in whole processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import commands
import pytest

TINY = ["data.train_size=100", "trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.progress=false"]


def slnlab(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return commands.run("slnlab.train", *arguments, cwd=cwd)


def results(folder: Path) -> list[Path]:
    return sorted(folder.rglob("result.json"))


def test_the_users_command_runs_then_skips_then_runs_by_force(tmp_path: Path) -> None:
    first = slnlab("noise=asym", "sln.sigma=0.5", *TINY, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    (result,) = results(tmp_path)
    assert result.relative_to(tmp_path).parts[:4] == ("runs", "digits", "asym-0.4", "sln")
    content = json.loads(result.read_text())
    assert content["identity"]["sln"]["sigma"] == 0.5
    assert set(content["rows"]) == {"network", "momentum"}
    written = result.stat().st_mtime_ns

    again = slnlab("noise=asym", "sln.sigma=0.5", *TINY, cwd=tmp_path)
    assert again.returncode == 0
    assert "already finished" in again.stdout
    assert result.stat().st_mtime_ns == written

    forced = slnlab("noise=asym", "sln.sigma=0.5", *TINY, "force=true", cwd=tmp_path)
    assert forced.returncode == 0
    assert results(tmp_path) == [result], "the same directory"
    assert result.stat().st_mtime_ns > written


def test_multirun_uses_single_run_directories_and_skips_finished_runs(tmp_path: Path) -> None:
    single = slnlab("sln.sigma=0.2", *TINY, cwd=tmp_path)
    assert single.returncode == 0, single.stderr
    (before,) = results(tmp_path)
    sweep = slnlab("-m", "sln.sigma=0.2,1", "noise=sym,asym", *TINY, cwd=tmp_path)
    assert sweep.returncode == 0, sweep.stderr
    assert sweep.stdout.count("already finished") == 1
    assert len(results(tmp_path)) == 4
    assert before in results(tmp_path)


def test_a_sweep_with_one_impossible_run_is_refused_before_any_starts(tmp_path: Path) -> None:
    sweep = slnlab("-m", "sln.sigma=0.1,0.5,-1", *TINY, cwd=tmp_path)
    assert sweep.returncode != 0
    assert "sln.sigma=-1" in sweep.stderr
    assert "Traceback" not in sweep.stderr
    assert not results(tmp_path)


MISTAKES = {
    "sln.sgima": ["sln.sgima=1"],
    "sln.sigma": ["sln.sigma=-1"],
    "noise=bogus": ["noise=bogus"],
    "sln.sigma: is not KEY=VALUE": ["sln.sigma"],
    "method=sln": ["method=ce", "sln.sigma=0.5"],
    "experiment=nope": ["experiment=nope"],
    "/dev/null/run": ["hydra.run.dir=/dev/null/run"],
    "experiment=demo: is a sweep over method, seed; add -m": ["experiment=demo"],
    "over seed; add -m, or give each one value": ["experiment=demo", "method=ce"],
    "noise.name=asym: the name follows from the option; type noise=asym": ["noise.name=asym"],
    "for a sweep type -m method=sln,gce": ["method=[sln,gce]"],
    "the name follows from the option; leave it out": ["noise={rate: 0.2, name: asym}"],
    "hydra.launcher.devices: 0 is not allowed": [
        "-m",
        "launcher=local",
        "hydra.launcher.devices=0",
        "seed=0,1",
        "--dry-run",
    ],
    "for a sweep runs_dir=FOLDER holds all runs": ["-m", "seed=0,1", "hydra.run.dir=mine"],
    "runs_dir: one folder holds all runs of a sweep, not 'a', 'b'": ["-m", "runs_dir=a,b", "--dry-run"],
    "--force: keys have no dashes: force=VALUE": ["--force"],
    "noise.rate: '40%' is not allowed": ["noise.rate=40%", "method=dividemix"],
    "sln.sigma: \"Environment variable 'NOPE'": ["sln.sigma=${oc.env:NOPE}"],
    "hydra.launcher.runs_per_device: Interpolation key": [
        *("-m", "launcher=local", "seed=0,1", "hydra.launcher.runs_per_device=${nothing}"),
    ],
    "50 of 50 training samples held out leave none": ["data.train_size=100", "data.noisy_val=50", "data.fold=[0,2]"],
    "600 of 321 training samples held out leave none": ["data.imbalance=100", "data.noisy_val=600"],
}
"""What the message must name → the arguments."""

FORKS = """
import os, sys, slnlab.train
for number, arguments in enumerate(eval(sys.argv[1])):
    child = os.fork()
    if not child:
        for stream, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{number}.{name}", os.O_WRONLY | os.O_CREAT), stream)
        os.mkdir(str(number))
        os.chdir(str(number))
        sys.argv[1:] = arguments
        try:
            slnlab.train.main()
        finally:
            assert "torch" not in sys.modules, "torch was imported"
        sys.exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""One interpreter without torch, of which each command is a fork."""


@pytest.fixture(scope="module")
def mistakes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, list[Path]]]:
    """What the message must name → exit code, standard error, and the files that were left behind."""
    folder = tmp_path_factory.mktemp("mistakes")
    done = subprocess.run(
        [sys.executable, "-c", FORKS, repr([*MISTAKES.values()])],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    codes = map(int, done.stdout.split())
    return {
        key: (code, (folder / f"{number}.err").read_text(), [*(folder / str(number)).iterdir()])
        for number, (key, code) in enumerate(zip(MISTAKES, codes, strict=True))
    }


@pytest.mark.parametrize("key", MISTAKES)
def test_a_mistake_is_one_message_without_torch_or_directory(
    key: str, mistakes: dict[str, tuple[int, str, list[Path]]]
) -> None:
    code, error, left_behind = mistakes[key]
    assert code == 1
    assert error.startswith("error: ")
    assert key in error
    assert "Traceback" not in error
    assert left_behind == []


def test_missing_data_are_one_message_without_a_traceback(tmp_path: Path) -> None:
    done = slnlab("data=cifar10", "data.source.root=nowhere", "data.source.download=false", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "nowhere" in done.stderr
    assert "data.source.download=true" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_chosen_directory_refuses_a_second_configuration(tmp_path: Path) -> None:
    assert slnlab("hydra.run.dir=here", *TINY, cwd=tmp_path).returncode == 0
    assert results(tmp_path) == [tmp_path / "here" / "result.json"]
    other = slnlab("hydra.run.dir=here", "sln.sigma=0.3", *TINY, cwd=tmp_path)
    assert other.returncode == 1
    assert "sln.sigma=1.0 there, 0.3 here" in other.stderr
    assert "force=true" in other.stderr


def test_a_command_without_arguments_runs_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from slnlab import train as command
    from slnlab.config.run_spec import RunSpec

    seen: list[RunSpec] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["slnlab.train"])
    monkeypatch.setattr(command, "train", lambda spec, *_: seen.append(spec) or SimpleNamespace(rows={}))
    command.main()
    assert (seen[0].config.data.name, seen[0].config.method.name) == ("digits", "sln")


def test_help_lists_choices_and_keys(tmp_path: Path) -> None:
    done = slnlab("--help", cwd=tmp_path)
    assert done.returncode == 0
    for word in (
        "fashion_mnist",
        "part_dependent",
        "sln_mo_lc",
        "sln.sigma",
        "noise.seed",
        "--multirun",
        "slnlab --help",
    ):
        assert word in done.stdout


def test_the_configuration_can_be_printed(tmp_path: Path) -> None:
    done = slnlab("data=cifar100", "--cfg", "job", "--resolve", cwd=tmp_path)
    assert done.returncode == 0
    assert "sigma: 0.2" in done.stdout
    assert not results(tmp_path)


def test_shell_completion_offers_groups_options_and_keys(tmp_path: Path) -> None:
    def complete(line: str) -> list[str]:
        typed = {"COMP_LINE": line, "COMP_POINT": str(len(line))}
        done = commands.run("slnlab.train", "-sc", "query=bash", cwd=tmp_path, env={**os.environ, **typed})
        return done.stdout.split()

    assert "noise=part_dependent" in complete("slnlab noise=pa")
    assert "sln.sigma=" in complete("slnlab sln.s")


def test_a_data_error_leaves_a_finished_run_unchanged(tmp_path: Path) -> None:
    arguments = ["hydra.run.dir=here", *TINY]
    assert slnlab(*arguments, cwd=tmp_path).returncode == 0
    before = (tmp_path / "here" / "result.json").read_text()
    (tmp_path / "noise.csv").write_text("label,label_noisy\n0,1\n")
    failed = slnlab(*arguments, "noise=csv", "noise.path=noise.csv", "force=true", cwd=tmp_path)
    assert failed.returncode == 1
    assert "noise.csv" in failed.stderr
    assert (tmp_path / "here" / "result.json").read_text() == before


def test_a_users_own_data_set_and_network_train(tmp_path: Path) -> None:
    """--config-dir adds options; dependent noise finds them for its run on clean labels too."""
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "from slnlab.data.digits import Digits\n"
        "from slnlab.data.source import LabelledImages\n"
        "class Inverted(Digits):\n"
        "    name = 'inverted'\n"
        "    def load(self, split):\n"
        "        images, labels = super().load(split)\n"
        "        return LabelledImages(255 - images, labels)\n"
        "class Linear(torch.nn.Sequential):\n"
        "    def __init__(self, in_channels, num_classes):\n"
        "        super().__init__(torch.nn.Flatten(), torch.nn.Linear(64 * in_channels, num_classes))\n"
    )
    conf = tmp_path / "conf"
    (conf / "data").mkdir(parents=True)
    (conf / "model").mkdir()
    (conf / "data" / "inverted.yaml").write_text(
        "# @package _global_\n"
        "defaults: [digits, override /model: plain, _self_]\n"
        "data: {name: inverted, source: {_target_: mine.Inverted}}\n"
        "preset: {clean_run: [model=plain, trainer.max_epochs=1]}\n"
    )
    (conf / "model" / "plain.yaml").write_text(
        "_target_: mine.Linear\nname: plain\nin_channels: ${data.channels}\nnum_classes: ${data.num_classes}\n"
    )
    done = commands.run(
        "slnlab.train",
        *("--config-dir", "conf", "data=inverted", "noise=dependent", *TINY),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.relative_to(tmp_path).parts[2] for path in results(tmp_path)) == ["dependent-0.4", "none"]


def test_a_failed_run_does_not_stop_the_sweep(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("label,label_noisy\n0,1\n")
    (tmp_path / "worse.csv").write_text("label;label_noisy\n")
    paths = "noise.path=bad.csv,worse.csv"
    sweep = slnlab("-m", "noise=csv", paths, *TINY, cwd=tmp_path)
    assert sweep.returncode == 1
    assert sweep.stdout.count("failed: ") == 2, "the second was tried too"
    assert "bad.csv" in sweep.stderr
    assert "Traceback" not in sweep.stderr
    assert not results(tmp_path)
