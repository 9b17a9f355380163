"""`--dry-run` of slnlab.train prints the plan of a run or sweep, and trains or writes nothing."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from slnlab import train as command
from slnlab.config import compose
from slnlab.record.result import Result
from slnlab.training import dry_run
from slnlab.training.memory import estimate

TINY = ["data.train_size=100", "trainer.max_epochs=2", "trainer.accelerator=cpu", "trainer.progress=false"]

Plan = Callable[..., list[str]]


@pytest.fixture
def plan(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """The lines that the command prints; exit code 0, and no file may be another."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # which main sets
    monkeypatch.setattr(sys, "argv", ["slnlab"])

    def run(*words: str) -> list[str]:
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        with pytest.raises(SystemExit) as ended:
            command.main([*TINY, *words, "--dry-run"])
        assert not ended.value.code, ended.value.code
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
        return capsys.readouterr().out.splitlines()

    return run


def kinds(lines: list[str]) -> list[tuple[str, str]]:
    """First column and state of each run."""
    columns = [re.split(r" {2,}", line) for line in lines if line.startswith(("run ", "first "))]
    return [(kind, state) for kind, _, state, _ in columns]


def test_a_plan_counts_finished_and_missing_runs(
    plan: Plan, tmp_path: Path, tiny_run: Callable[..., tuple[Result, Path]]
) -> None:
    sweep = ("-m", "seed=0,1", "sln.sigma=0.5")
    nothing = plan(*sweep)
    assert nothing[0] == "2 runs (2 missing)"
    assert "time      unknown" in "\n".join(nothing)
    first, second = (Path(line.split("  ")[-1]) for line in nothing[1:3])
    assert [first.name, second.name] == ["seed0", "seed1"]

    result, _ = tiny_run("sln.sigma=0.5", directory=first)
    one_done = plan(*sweep)
    assert kinds(one_done) == [("run", "done"), ("run", "missing")]
    assert "time      about" in "\n".join(one_done)
    assert "again by force=true" in "\n".join(plan("seed=0", "sln.sigma=0.5", "force=true"))
    assert result.epochs == 2

    (first / "result.json").unlink()
    assert "stopped (2/2 epochs)" in "\n".join(plan("seed=0", "sln.sigma=0.5"))


@pytest.mark.parametrize("sweep", [[], ["-m"]], ids=["run", "sweep"])
def test_an_unexpected_error_of_a_dry_run_trains_nothing(
    sweep: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hydra would turn it into a warning, and train."""

    def fail(*_: object) -> None:
        raise KeyError("never seen before")

    monkeypatch.setattr(dry_run, "show", fail)
    monkeypatch.setattr(command, "train", lambda *_: pytest.fail("it trains"))
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["slnlab"])
    with pytest.raises(SystemExit) as ended:
        command.main([*TINY, *sweep, "seed=0", "--dry-run"])
    assert ended.value.code == 1
    assert "KeyError: 'never seen before'" in capsys.readouterr().err
    assert not [*tmp_path.rglob("*")]


def test_a_key_that_follows_another_differs_between_the_runs_of_a_sweep(plan: Plan) -> None:
    lines = plan("-m", "seed=0,3", "noise.seed=${seed}")
    first, second = (Path(line.split("  ")[-1]) for line in lines[1:3])
    assert (first.name, second.name) == ("seed0", "seed3")
    assert first.parent != second.parent, "other noisy labels are another configuration"


def test_broken_results_do_not_count_for_the_time(plan: Plan, tiny_run: Callable[..., tuple[Result, Path]]) -> None:
    lines = plan("sln.sigma=0.5")
    place = Path(lines[1].split("  ")[-1])
    for number, content in enumerate(('{"x', "[]", '{"identity": {}}')):
        broken = place.parent / f"seed{number + 7}" / "result.json"
        broken.parent.mkdir(parents=True)
        broken.write_text(content)
    assert "time      unknown" in "\n".join(plan("sln.sigma=0.5"))


def test_a_plan_lists_the_source_runs(plan: Plan) -> None:
    lines = plan("method=co_teaching", "init.from=sln", "noise=dependent")
    assert lines[0] == "1 run (1 missing); before them 3 runs (3 missing) that they need"
    assert kinds(lines) == [("first", "missing")] * 3 + [("run", "missing")]
    assert " none ce seed=0, for noise=dependent" in lines[1], "noise=dependent: the runs to start from need it too"
    assert sum("for init.from=sln" in line for line in lines) == 2, "one for each network"
    assert kinds(plan("method=forward")) == [("first", "missing"), ("run", "missing")]


def test_a_dry_run_refuses_a_directory_of_another_run(
    plan: Plan, tmp_path: Path, tiny_run: Callable[..., tuple[Result, Path]]
) -> None:
    tiny_run("sln.sigma=0.5", directory=tmp_path / "here")
    with pytest.raises(SystemExit, match="here holds another run"):
        command.main([*TINY, "sln.sigma=0.1", "hydra.run.dir=here", "--dry-run"])


# Memory


class OneLayer(nn.Sequential):
    """10 · 64 weights and 10 biases."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64 * in_channels, num_classes))


@pytest.mark.parametrize(
    ("overrides", "copies"),
    [
        (["method=ce", "optimizer.momentum=0"], 2),  # weights, gradients
        (["method=ce"], 3),  # and SGD's momentum
        (["method=sln"], 4),  # and the momentum model
        (["method=sln", "best_epoch.enabled=true", "data.noisy_val=9"], 5),  # and the best epoch
    ],
)
def test_the_estimate_of_memory_by_hand(overrides: list[str], copies: int) -> None:
    config = compose([*overrides, "data.train_size=100", "data.batch_size=20", "momentum.decay=0.9"])
    config.model = {"_target_": f"{__name__}.OneLayer", "name": "one", "in_channels": 1, "num_classes": 10}
    found = estimate(config)
    assert found.parameters == 650
    assert found.weights == copies * 650 * 4
    assert found.activations == 20 * 64 * 4, "the input of the layer"
    assert found.images == 100 * 8 * 8
    assert str(found).startswith("roughly ")


def test_two_networks_take_twice_the_memory_of_one() -> None:
    one, two = (estimate(compose([f"method={name}", "momentum.enabled=false"])) for name in ("ce", "co_teaching"))
    assert two.weights == 2 * one.weights


@pytest.mark.parametrize(
    ("method", "batches"),
    [
        *(("mixup", 1), ("elr_plus", 1), ("jocor", 2), ("dividemix", 2), ("pes_semi", 2), ("sop_plus", 2)),
        *(("ssr", 2), ("ssr_plus", 3), ("disc", 4)),
    ],
)
def test_a_step_keeps_the_activations_of_several_batches(method: str, batches: int) -> None:
    one, several = (estimate(compose([f"method={name}"])).activations for name in ("ce", method))
    assert one is not None
    assert several == batches * one


def test_images_of_unknown_size_are_reported_as_unknown() -> None:
    config = compose(["preset.image_size=null"])
    found = estimate(config)
    assert found.activations is None
    assert "unknown without preset.image_size" in str(found)
    assert torch.get_default_device().type == "cpu"


def test_missing_weights_are_announced(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a node without a network the run would fail after its data are read."""
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    words = ("-m", "seed=0,1", "data=cifar10", "data.source.download=false", "model=resnet50", "model.pretrained=true")
    file = tmp_path / "checkpoints" / "resnet50-0676ba61.pth"
    (line,) = (line for line in plan(*words) if line.startswith("download"))
    assert line.endswith(f"/resnet50-0676ba61.pth to {file}, once")
    file.parent.mkdir()
    file.touch()
    assert not [line for line in plan(*words) if line.startswith("download")]
