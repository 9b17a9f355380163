"""Runs that are stopped between two steps of an epoch and go on there.

That it is so for every method is in tests/methods/test_every_method.py, for several processes in test_processes.py.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kill_matrix
import pytest
import torch

from slnlab.callbacks import within_epoch
from slnlab.callbacks.within_epoch import WithinEpoch
from slnlab.config import compose
from slnlab.errors import DataError
from slnlab.methods import Method
from slnlab.methods.single_network import SingleNetwork
from slnlab.processes import stopping
from slnlab.processes.stopping import Stopped
from slnlab.record.checkpoints import Checkpoints
from slnlab.record.metrics import read_metrics
from slnlab.record.result import Result
from slnlab.train import train
from slnlab.training.settling import settle

TinyRun = Callable[..., tuple[Result, Path]]

STEPS = 20
OVERRIDES = (
    "method=sln_mo_lc",
    "correction.last_epochs=2",
    "data.noisy_val=20",
    "data.batch_size=5",
    "data.train_size=120",
    "trainer.max_epochs=3",
    "scheduler=cosine",
)
"""A run of 3 epochs of 20 steps, 16 of them in the first call of Lightning's."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never stopped; not to be changed."""
    directory = tmp_path_factory.mktemp("whole")
    train(compose([*OVERRIDES, "trainer.accelerator=cpu", "trainer.progress=false"]), directory)
    return directory


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped in step 5 of its second epoch; not to be changed."""
    directory = tmp_path_factory.mktemp("stopped")
    config = compose([*OVERRIDES, "trainer.accelerator=cpu", "trainer.progress=false"])
    stop_in(STEPS + 5, lambda: train(config, directory))
    return directory


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps that were begun, since the list was emptied."""
    loss, begun = SingleNetwork.loss, list[int]()

    def noted(self: SingleNetwork, batch: Any) -> Any:
        begun.append(self.steps)
        return loss(self, batch)

    monkeypatch.setattr(SingleNetwork, "loss", noted)
    return begun


def at(owner: Any, name: str, when: Callable[..., bool], what: Callable[[], None]) -> pytest.MonkeyPatch:
    """Something happens once, before `owner.name`."""
    inner, patch, done = getattr(owner, name), pytest.MonkeyPatch(), False

    def wrapped(self: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal done
        if not done and when(self):
            done = True
            what()
        return inner(self, *arguments, **options)

    patch.setattr(owner, name, wrapped)
    return patch


def tell() -> None:
    os.kill(os.getpid(), signal.SIGUSR1)


def stop_in(step: int, run: Callable[[], Any]) -> None:
    with at(SingleNetwork, "loss", lambda method: method.steps == step, tell).context(), pytest.raises(Stopped):
        run()


def within(directory: Path) -> Path:
    return directory / "checkpoints" / "within-0.ckpt"


@pytest.mark.parametrize(
    "step",
    [0, 3, 15, 19, 20 + 16, 40 + 18],
    ids=["the first", "in epoch 1", "a call's last", "an epoch's last", "corrected", "in the last epoch"],
)
def test_a_stopped_run_continues_with_the_next_step(
    step: int, tiny_run: TinyRun, whole: Path, steps: list[int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stop_in(step, lambda: tiny_run(*OVERRIDES))
    assert within(tmp_path / "run").exists()
    steps.clear()
    with caplog.at_level(logging.INFO):
        tiny_run(*OVERRIDES)
    assert steps == list(range(step + 1, 3 * STEPS)), "none twice, none left out"
    assert f"going on after step {step % STEPS + 1} of epoch {step // STEPS + 1}" in caplog.text
    assert kill_matrix.differences(whole, tmp_path / "run", epochs=3) == []
    assert not within(tmp_path / "run").exists(), "nothing is left over"


def test_a_run_stopped_during_evaluation_continues(
    tiny_run: TinyRun, whole: Path, steps: list[int], tmp_path: Path
) -> None:
    """Then the schedule has moved on already, and must not do it again."""
    told = at(Method, "_evaluate", lambda method: method.current_epoch == 1, tell)
    with told.context(), pytest.raises(Stopped):
        tiny_run(*OVERRIDES)
    steps.clear()
    tiny_run(*OVERRIDES)
    assert steps[0] == 2 * STEPS
    assert kill_matrix.differences(whole, tmp_path / "run", epochs=3) == []


def test_a_run_survives_any_number_of_stops(tiny_run: TinyRun, whole: Path, steps: list[int], tmp_path: Path) -> None:
    for step in (21, 25, 26, 38):
        stop_in(step, lambda: tiny_run(*OVERRIDES))
    tiny_run(*OVERRIDES)
    assert steps == list(range(3 * STEPS))
    assert kill_matrix.differences(whole, tmp_path / "run", epochs=3) == []


def test_a_run_is_saved_every_so_many_steps(tiny_run: TinyRun, whole: Path, steps: list[int], tmp_path: Path) -> None:
    """An error is no end that anybody is told of, as little as a lost machine is."""

    def fail() -> None:
        raise RuntimeError("a bolt from the blue")

    overrides = (*OVERRIDES, "trainer.checkpoint_every_steps=10")
    failing = at(SingleNetwork, "loss", lambda method: method.steps == STEPS + 18, fail)
    with failing.context(), pytest.raises(RuntimeError):
        tiny_run(*overrides)
    steps.clear()
    tiny_run(*OVERRIDES)
    assert steps == list(range(STEPS + 16, 3 * STEPS)), "from the end of a call of 16 steps"
    assert kill_matrix.differences(whole, tmp_path / "run", epochs=3) == []


def test_the_saving_interval_does_not_change_the_identity() -> None:
    assert settle(compose(["trainer.checkpoint_every_steps=10"])).subdir == settle(compose([])).subdir
    assert compose(["data=clothing1m"]).trainer.checkpoint_every_steps == 1000
    assert compose([]).trainer.checkpoint_every_steps is None


@pytest.mark.parametrize("what", ["damaged", "of an epoch that is over", "of two processes"])
def test_an_unusable_file_costs_only_the_begun_epoch(
    what: str, tiny_run: TinyRun, whole: Path, steps: list[int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, kept = tmp_path / "run", tmp_path / "kept.ckpt"
    stop_in(5, lambda: tiny_run(*OVERRIDES))
    shutil.copy(within(run), kept)
    stop_in(STEPS + 5, lambda: tiny_run(*OVERRIDES))
    if what == "of an epoch that is over":
        shutil.copy(kept, within(run))
    elif what == "of two processes":
        state = torch.load(within(run), weights_only=True)
        torch.save(state | {"processes": 2}, within(run))
    else:
        within(run).write_bytes(within(run).read_bytes()[:-100])
    steps.clear()
    tiny_run(*OVERRIDES)
    assert steps[0] == STEPS
    assert kill_matrix.differences(whole, run, epochs=3) == []
    assert ("truncated, damaged" in caplog.text) == (what == "damaged")


def test_a_full_disk_does_not_prevent_a_stop(
    tiny_run: TinyRun, whole: Path, steps: list[int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save = Checkpoints.save_checkpoint

    def full(self: Checkpoints, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        if Path(path).name.startswith("within"):
            raise DataError(f"{path}: cannot be written: No space left on device")
        save(self, checkpoint, path, storage_options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "save_checkpoint", full)
        stop_in(STEPS + 5, lambda: tiny_run(*OVERRIDES))
    assert "No space left on device. A stop costs the work since the last save" in caplog.text
    steps.clear()
    tiny_run(*OVERRIDES)
    assert steps[0] == STEPS
    assert kill_matrix.differences(whole, tmp_path / "run", epochs=3) == []


@pytest.mark.parametrize("found", [True, False], ids=["with a file", "without one"])
@pytest.mark.parametrize("others", ["the same", "another step", "another start", "none"])
def test_either_the_files_of_all_processes_are_used_or_none(
    others: str,
    found: bool,
    stopped: Path,
    tiny_run: TinyRun,
    steps: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever this process has found, it hears of the other's: otherwise that one would wait for it."""
    run = shutil.copytree(stopped, tmp_path / "run")
    start = torch.load(within(run), weights_only=True)["start"]
    if not found:
        within(run).unlink()
    heard = {"the same": [6, start], "another step": [5, start], "another start": [6, start + 1], "none": [0, 0]}
    asked = []

    def gathered(rows: torch.Tensor) -> torch.Tensor:
        asked.append(rows.tolist())
        return torch.cat([rows, torch.tensor([heard[others]])])

    monkeypatch.setattr(within_epoch, "gather", gathered)
    tiny_run(*OVERRIDES)
    assert asked == [[[6, start] if found else [0, 0]]]
    assert steps[0] == (STEPS + 6 if found and others == "the same" else STEPS)


def test_a_file_is_removed_if_another_process_could_not_save(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job of which it were would be put back into the queue for ever."""
    monkeypatch.setattr(
        within_epoch, "gather", lambda rows: torch.cat([rows, torch.zeros_like(rows)]) if rows.ndim == 1 else rows
    )
    stop_in(STEPS + 5, lambda: tiny_run(*OVERRIDES))
    assert not within(tmp_path / "run").exists()


def test_nothing_is_saved_in_the_middle_of_a_step(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second Ctrl-C does not wait for its end."""

    monkeypatch.setattr(stopping, "PATIENCE", 0.0)

    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    told = at(SingleNetwork, "loss", lambda method: method.steps == 7, twice)
    with told.context(), pytest.raises(Stopped):
        tiny_run(*OVERRIDES)
    assert not within(tmp_path / "run").exists()


def test_seconds_before_the_stop_count(tiny_run: TinyRun, tmp_path: Path) -> None:
    stop_in(STEPS + 17, lambda: tiny_run(*OVERRIDES))
    state = torch.load(within(tmp_path / "run"), weights_only=True)
    torch.save(state | {"seconds": 1000.0}, within(tmp_path / "run"))
    tiny_run(*OVERRIDES)
    seconds = [row["seconds"] for row in read_metrics(tmp_path / "run" / "metrics.csv")]
    assert seconds[1] > 1000 > max(seconds[0], seconds[2])


def test_seconds_of_an_evaluation_do_not_count(tiny_run: TinyRun, tmp_path: Path) -> None:
    def late() -> None:
        time.sleep(3)
        tell()

    with at(Method, "_evaluate", lambda method: method.current_epoch == 1, late).context(), pytest.raises(Stopped):
        tiny_run(*OVERRIDES)
    assert torch.load(within(tmp_path / "run"), weights_only=True)["seconds"] < 3


def test_within_epoch_runs_after_the_run_record() -> None:
    """By then the file within the epoch is useless."""
    from slnlab.callbacks.run_record import RunRecord
    from slnlab.record.run_directory import RunDirectory
    from slnlab.training import assemble

    trainer, _ = assemble.trainer(settle(compose(["trainer.accelerator=cpu"])), RunDirectory(Path("nowhere")), [])
    assert [type(callback) for callback in trainer.callbacks[-2:]] == [RunRecord, WithinEpoch]  # type: ignore[attr-defined]
