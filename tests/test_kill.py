"""A part of the kill matrix: real processes. `make kill-matrix` does all of it."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import kill_matrix
import pytest
import torch

from slnlab.config import compose
from slnlab.train import train


def run_here(directory: Path) -> None:
    """The same run in this process, without the seconds that a new one takes."""
    train(compose(kill_matrix.OVERRIDES), directory)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never stopped."""
    directory = tmp_path_factory.mktemp("whole")
    run_here(directory)
    return directory


@pytest.mark.parametrize(
    ("phase", "number", "code", "kept"),
    [
        ("epoch", signal.SIGTERM, 143, 2),
        ("checkpoint renamed", signal.SIGKILL, -9, 2),
        ("correction", signal.SIGKILL, -9, 4),
    ],
)
def test_a_killed_run_resumes_bit_for_bit(
    phase: str, number: signal.Signals, code: int, kept: int, whole: Path, tmp_path: Path
) -> None:
    ended = kill_matrix.run_until(phase, number, *kill_matrix.OVERRIDES, f"hydra.run.dir={tmp_path}")
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "result.json").exists()
    assert kill_matrix.epochs_kept(tmp_path) == kept
    run_here(tmp_path)
    assert kill_matrix.differences(whole, tmp_path) == []


@pytest.mark.parametrize("part", ["state_dict", "sample_table", "metrics.csv"])
def test_the_comparison_notices_a_single_bit(part: str, whole: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(whole, other)
    if part == "metrics.csv":
        text = (other / part).read_text()
        (other / part).write_text(text.replace("\n6,", "\n7,"))
    else:
        path = other / "checkpoints" / "last.ckpt"
        checkpoint = torch.load(path, weights_only=True)
        column = next(value for value in checkpoint[part].values() if value.is_floating_point())
        column.view(-1)[-1:].copy_(torch.nextafter(column.view(-1)[-1:], torch.tensor(torch.inf)))
        torch.save(checkpoint, path)
    assert kill_matrix.differences(whole, other) == [part]


@pytest.mark.slow  # test_processes.py ends one of the two; this is a minute's worth of starting processes
def test_a_killed_run_of_two_processes_resumes_bit_for_bit(tmp_path: Path) -> None:
    """Here the one that the user started is killed, and its processes end by themselves."""
    whole, directory = tmp_path / "whole", tmp_path / "killed"
    overrides = (*kill_matrix.OVERRIDES, "trainer.devices=2")
    train(compose(overrides), whole)
    ended = kill_matrix.run_until(
        "checkpoint", signal.SIGKILL, *overrides, f"hydra.run.dir={directory}", to=kill_matrix.LAUNCHER
    )
    assert ended.returncode == -9, ended.stderr
    assert kill_matrix.epochs_kept(directory) in (2, 3)
    train(compose(overrides), directory)
    assert kill_matrix.differences(whole, directory) == []


def test_a_stopped_sweep_does_not_start_its_next_run(tmp_path: Path) -> None:
    overrides = (*kill_matrix.OVERRIDES, "seed=0,1", f"runs_dir={tmp_path}", "hydra.mode=MULTIRUN")
    ended = kill_matrix.run_until("epoch", signal.SIGTERM, *overrides)
    assert ended.returncode == 143, ended.stderr
    assert [path.parent.name for path in tmp_path.rglob("metrics.csv")] == ["seed0"]
    assert not list(tmp_path.rglob("result.json"))
