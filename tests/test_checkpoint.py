"""Intact, damaged, foreign and malicious checkpoints, and full disks."""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import pickle
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from slnlab.callbacks.memorisation import MemorisationMonitor
from slnlab.callbacks.run_record import RunRecord
from slnlab.errors import DataError, SlnlabError
from slnlab.methods.single_network import SingleNetwork
from slnlab.record.checkpoints import FORMAT, STAMP, Checkpoints
from slnlab.record.metrics import read_metrics
from slnlab.record.result import Result
from slnlab.train import main

TinyRun = Callable[..., tuple[Result, Path]]
WEIGHTS = torch.arange(1000.0)


@pytest.fixture
def two(tmp_path: Path) -> Checkpoints:
    """The checkpoints after epochs 1 and 2."""
    checkpoints = Checkpoints(tmp_path / "checkpoints" / "last.ckpt", "this run")
    for epoch in (1, 2):
        checkpoints.save_checkpoint({"epoch": epoch, "weights": WEIGHTS * epoch}, checkpoints.last)
    return checkpoints


def test_the_previous_checkpoint_is_kept_and_the_newest_is_used(two: Checkpoints) -> None:
    assert sorted(os.listdir(two.last.parent)) == ["last.ckpt", "previous.ckpt"]
    assert two.newest() == two.last
    assert two.load_checkpoint(two.last)["epoch"] == 2
    assert two.load_checkpoint(two.previous)["epoch"] == 1
    assert torch.equal(two.load_checkpoint(two.last)["weights"], WEIGHTS * 2)


def test_without_checkpoints_there_is_nothing_to_resume(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "checkpoints" / "last.ckpt", "this run").newest() is None


def _spoiled(two: Checkpoints, how: str) -> bytes:
    whole = two.last.read_bytes()
    if how == "empty":
        return b""
    if how == "half":
        return whole[: len(whole) // 2]
    if how == "last byte":
        return whole[:-1]
    if how == "one bit":
        at = whole.index((WEIGHTS * 2).numpy().tobytes()) + 2001
        return whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
    return b"no checkpoint at all"


@pytest.mark.parametrize("how", ["empty", "half", "last byte", "one bit", "text"])
def test_a_damaged_checkpoint_is_set_aside_for_the_previous_one(
    how: str, two: Checkpoints, caplog: pytest.LogCaptureFixture
) -> None:
    two.last.write_bytes(_spoiled(two, how))
    with caplog.at_level(logging.WARNING):
        assert two.newest() == two.previous
    (said,) = caplog.messages
    assert f"{two.last}: is " in said
    assert "damaged" in said
    assert two.last.with_name("last.ckpt.bad").exists()
    two.save_checkpoint({"epoch": 2}, two.last)
    assert two.load_checkpoint(two.previous)["epoch"] == 1, "the good one was not pushed out by the spoiled one"


def test_a_flipped_bit_is_noticed_although_torch_loads_it(two: Checkpoints) -> None:
    """Why the checksums are looked at."""
    two.last.write_bytes(_spoiled(two, "one bit"))
    assert not torch.equal(torch.load(two.last, weights_only=True)["weights"], WEIGHTS * 2)


@pytest.mark.parametrize(
    ("stamp", "complaint"),
    [
        (None, "was not written by slnlab"),
        ({"format": FORMAT + 1, "version": "9.9", "identity": "this run"}, rf"slnlab 9\.9 in format {FORMAT + 1}"),
        ({"format": FORMAT, "version": "0", "identity": "that"}, "another configuration .hash that, not this run"),
    ],
)
def test_a_foreign_checkpoint_is_named(stamp: dict[str, Any] | None, complaint: str, two: Checkpoints) -> None:
    torch.save({"epoch": 2} if stamp is None else {"epoch": 2, STAMP: stamp}, two.last)
    with pytest.raises(DataError, match=complaint):
        two.load_checkpoint(two.last)
    assert two.newest() == two.previous


class Malicious:
    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.proof),)


@pytest.mark.parametrize("container", ["zip", "bare pickle"])
@pytest.mark.parametrize("weights_only", [True, False, None])
def test_code_in_a_checkpoint_is_never_executed(
    container: str, weights_only: bool | None, two: Checkpoints, tmp_path: Path
) -> None:
    proof = tmp_path / "executed"
    if container == "zip":
        torch.save({STAMP: Malicious(proof)}, two.last)
    else:
        two.last.write_bytes(pickle.dumps({STAMP: Malicious(proof)}))
    with pytest.raises(DataError, match=r"last\.ckpt"):
        two.load_checkpoint(two.last, weights_only=weights_only)
    assert two.newest() == two.previous
    assert not proof.exists()
    if container == "zip":
        torch.load(two.last.with_name("last.ckpt.bad"), weights_only=False)
        assert proof.exists(), "it is not malicious, so nothing was shown"


def test_without_a_good_checkpoint_the_run_is_refused_untouched(two: Checkpoints) -> None:
    two.last.write_bytes(b"")
    two.previous.write_bytes(b"rubbish")
    with pytest.raises(DataError, match=r"(?s)force=true.*last\.ckpt: .*previous\.ckpt: "):
        two.newest()
    assert sorted(os.listdir(two.last.parent)) == ["last.ckpt", "previous.ckpt"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_checkpoint_that_cannot_be_written_leaves_a_good_one(
    call: str, two: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(DataError, match=r"last\.ckpt: cannot be written: No space left"):
            two.save_checkpoint({"epoch": 3}, two.last)
    newest = two.newest()
    assert newest is not None
    assert two.load_checkpoint(newest)["epoch"] == 2
    assert not list(two.last.parent.glob(".*")), "what was begun is gone"


# Whole runs


def _stop_in(epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    written = RunRecord.on_train_epoch_end

    def stop(self: RunRecord, trainer: Any, module: Any) -> None:
        if trainer.current_epoch + 1 == epoch:
            raise RuntimeError("power cut")
        written(self, trainer, module)

    monkeypatch.setattr(RunRecord, "on_train_epoch_end", stop)


def _values(path: Path) -> list[dict[str, float]]:
    timings = ("seconds", "images_per_second")
    return [{k: v for k, v in row.items() if k not in timings} for row in read_metrics(path / "metrics.csv")]


@pytest.mark.parametrize("damage", ["checkpoint", "metrics", "metrics gone", "begun"])
def test_a_run_recovers_from_a_damaged_checkpoint(
    damage: str, tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, there = tiny_run("trainer.max_epochs=4", directory=tmp_path / "whole")
    with monkeypatch.context() as patch:
        _stop_in(4, patch)
        with pytest.raises(RuntimeError, match="power cut"):
            tiny_run("trainer.max_epochs=4")
    path = tmp_path / "run"
    begun = path / "checkpoints" / f".last.ckpt.{'0' * 32}.tmp"
    if damage == "checkpoint":
        os.truncate(path / "checkpoints" / "last.ckpt", 5000)
    elif damage == "metrics":
        os.truncate(path / "metrics.csv", (path / "metrics.csv").stat().st_size - 20)
    elif damage == "metrics gone":
        (path / "metrics.csv").unlink()
    else:
        begun.write_bytes(b"half a checkpoint")
    resumed, _ = tiny_run("trainer.max_epochs=4")
    assert resumed.rows == whole.rows
    assert _values(path) == _values(there)
    assert not begun.exists()


def test_a_run_with_no_good_checkpoint_is_refused_until_forced(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        _stop_in(2, patch)
        with pytest.raises(RuntimeError, match="power cut"):
            tiny_run()
    (tmp_path / "run" / "checkpoints" / "last.ckpt").write_bytes(b"")
    with pytest.raises(DataError, match="force=true"):
        tiny_run()
    result, _ = tiny_run("force=true")
    assert result.epochs == 2


def test_a_non_finite_loss_is_not_saved_in_a_checkpoint(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = tiny_run("trainer.max_epochs=4", directory=tmp_path / "whole")
    loss = SingleNetwork.loss

    def diverge(self: SingleNetwork, batch: Any) -> Any:
        if self.steps == 5:  # in the third epoch
            for parameter in self.parameters():
                parameter.data.fill_(math.nan)
        return loss(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(SingleNetwork, "loss", diverge)
        with pytest.raises(SlnlabError, match="the loss is nan in epoch 3"):
            tiny_run("trainer.max_epochs=4")
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert len(last["metrics"]) == 2
    assert all(weights.isfinite().all() for weights in last["state_dict"].values())
    resumed, _ = tiny_run("trainer.max_epochs=4")
    assert resumed.rows == whole.rows


# Real file systems that are full or read-only


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB of its own."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", path], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("NOT TESTED: a full and a read-only disk, because only root can mount a small file system")
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 16, 512):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))


def _with_a_full_disk(epochs: set[int], ballast: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = MemorisationMonitor.on_train_epoch_end

    def fill(self: MemorisationMonitor, trainer: Any, module: Any) -> None:
        measured(self, trainer, module)
        ballast.unlink(missing_ok=True)
        if trainer.current_epoch + 1 in epochs:
            _fill(ballast)

    monkeypatch.setattr(MemorisationMonitor, "on_train_epoch_end", fill)


def test_a_temporarily_full_disk_costs_nothing(
    tiny_run: TinyRun,
    tmp_path: Path,
    small_disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole, there = tiny_run("trainer.max_epochs=4", directory=tmp_path / "whole")
    _with_a_full_disk({2, 3}, small_disk / "ballast", monkeypatch)
    with caplog.at_level(logging.WARNING):
        result, path = tiny_run("trainer.max_epochs=4", directory=small_disk / "run")
    said = [message for message in caplog.messages if "Training continues" in message]
    assert len(said) == 4, "for two files after two epochs"
    for message in said:
        assert str(path) in message
        assert "No space left on device. Training continues" in message
    assert result.rows == whole.rows
    assert _values(path) == _values(there)


def test_a_full_disk_at_the_end_leaves_only_the_result_to_write(
    tiny_run: TinyRun, tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = tiny_run("trainer.max_epochs=3", directory=tmp_path / "whole")
    at_the_end = RunRecord.on_fit_end
    ballast = small_disk / "ballast"

    def fill(self: RunRecord, trainer: Any, module: Any) -> None:
        _fill(ballast)
        at_the_end(self, trainer, module)

    with monkeypatch.context() as patch:
        patch.setattr(RunRecord, "on_fit_end", fill)
        with pytest.raises(DataError, match=r"No space left on device.*the same command writes the result"):
            tiny_run("trainer.max_epochs=3", directory=small_disk / "run")
    rows = (small_disk / "run" / "metrics.csv").read_text()
    assert not (small_disk / "run" / "result.json").exists()
    ballast.unlink()
    monkeypatch.setattr(SingleNetwork, "loss", lambda *_: pytest.fail("an epoch is trained again"))
    result, path = tiny_run("trainer.max_epochs=3", directory=small_disk / "run")
    assert result.rows == whole.rows
    assert (path / "metrics.csv").read_text() == rows


def test_a_read_only_directory_is_named(tiny_run: TinyRun, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(DataError, match=r"run: cannot be written: Read-only file system"):
        tiny_run(directory=small_disk / "run")


def test_the_command_names_the_file_hydra_could_not_write(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "runs/x/.hydra/config.yaml")

    monkeypatch.setattr("slnlab.train._hydra_main", full)
    monkeypatch.setattr(logging, "raiseExceptions", True)
    with pytest.raises(SystemExit, match=r"^error: runs/x/\.hydra/config\.yaml: cannot be written: No space left"):
        main([])
