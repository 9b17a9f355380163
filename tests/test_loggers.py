"""Loggers: what they are told, and that whatever happens to them never happens to the run."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from slnlab.callbacks.run_record import RunRecord
from slnlab.errors import SlnlabError
from slnlab.result import Result, read_metrics

TinyRun = Callable[..., tuple[Result, Path]]

OFFLINE = ("logger=wandb", "logger.mode=offline", "trainer.max_epochs=1")


class Seen:
    """A W&B run, asked what it is when it begins, and overheard."""

    def __init__(self, run: Any) -> None:
        self.run = run
        self.id, self.group, self.project, self.tags, self.name = run.id, run.group, run.project, run.tags, run.name
        self.config = dict(run.config)
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.exit_codes: list[int] = []
        log, finish = run.log, run.finish

        def spy_log(data: dict[str, float], step: int) -> None:
            self.logged.append((step, data))
            log(data, step=step)

        def spy_finish(exit_code: int) -> None:
            self.exit_codes.append(exit_code)
            finish(exit_code=exit_code)

        run.log, run.finish = spy_log, spy_finish


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Seen]]:
    """The W&B runs of this test, in their order; nothing comes from or stays in the environment."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    runs: list[Seen] = []
    init = wandb.init

    def spy(**options: Any) -> Any:
        run = init(**options)
        runs.append(Seen(run))
        return run

    monkeypatch.setattr(wandb, "init", spy)
    yield runs
    wandb.teardown()


def folders(run: Path) -> list[str]:
    """The W&B runs below a run directory: the ids at the end of their folders' names, oldest first."""
    return [folder.name.split("-")[-1] for folder in sorted((run / "wandb").glob("offline-run-*"))]


# W&B


def test_two_runs_in_one_process_are_two_wandb_runs(tiny_run: TinyRun, tmp_path: Path, seen: list[Seen]) -> None:
    """With Lightning's logger the second one goes on in the first one's."""
    paths = [tiny_run(*OFFLINE, f"seed={seed}", directory=tmp_path / f"seed{seed}")[1] for seed in (0, 1)]
    assert seen[0].id != seen[1].id
    assert [folders(path) for path in paths] == [[seen[0].id], [seen[1].id]]
    assert [(path / "wandb_id").read_text() for path in paths] == [seen[0].id, seen[1].id]
    assert [run.name for run in seen] == ["digits sym 0.4 sln seed=0", "digits sym 0.4 sln seed=1"]
    assert [run.exit_codes for run in seen] == [[0], [0]]
    assert wandb.run is None, "nothing is left open"


def test_a_wandb_run_of_the_users_own_is_left_alone(tiny_run: TinyRun, tmp_path: Path, seen: list[Seen]) -> None:
    """In a notebook, say."""
    own = wandb.init(project="theirs", mode="offline", dir=str(tmp_path))
    _, path = tiny_run(*OFFLINE)
    assert [run.id for run in seen] == [own.id, *folders(path)]
    assert [(run.project, run.exit_codes, len(run.logged)) for run in seen] == [("theirs", [], 0), ("slnlab", [0], 1)]
    own.finish(exit_code=0)


def test_nothing_is_left_in_the_environment(tiny_run: TinyRun, seen: list[Seen]) -> None:
    """WANDB_MODE there would make the next run, of whomever, an offline one."""
    tiny_run(*OFFLINE)
    assert len(seen) == 1
    assert "WANDB_MODE" not in os.environ


def test_a_group_is_what_a_mean_is_taken_over(tiny_run: TinyRun, tmp_path: Path, seen: list[Seen]) -> None:
    """Seeds share it, another σ has another one."""
    for number, overrides in enumerate((["seed=0"], ["seed=1"], ["sln.sigma=0.25"])):
        tiny_run(*OFFLINE, *overrides, directory=tmp_path / str(number))
    assert seen[0].group == seen[1].group != seen[2].group
    assert all(run.group.startswith("digits sym sln ") for run in seen)


def test_wandb_is_told_what_metrics_csv_holds(tiny_run: TinyRun, seen: list[Seen]) -> None:
    _, path = tiny_run(*OFFLINE, "trainer.max_epochs=2", "logger.project=noises", "logger.tags=[one,two]")
    (run,) = seen
    assert run.logged == list(enumerate(read_metrics(path / "metrics.csv"), start=1)), "by epoch"
    assert {"test/network/accuracy", "test/momentum/accuracy", "train/memorised"} <= run.logged[0][1].keys()
    assert run.project == "noises"
    assert run.tags == ("digits", "sym 0.4", "sln", "one", "two"), "to filter by in W&B"
    assert run.config["sln"] == {"sigma": 1.0}
    assert run.config["noise"]["rate"] == 0.4


def test_a_crash_is_told_and_a_resumed_run_is_the_same_wandb_run(
    tiny_run: TinyRun, tmp_path: Path, seen: list[Seen], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = RunRecord.on_train_epoch_end

    def crash(self: RunRecord, trainer: Any, module: Any) -> None:
        written(self, trainer, module)
        raise RuntimeError("power cut")

    overrides = (*OFFLINE, "trainer.max_epochs=2")
    with monkeypatch.context() as patch:
        patch.setattr(RunRecord, "on_train_epoch_end", crash)
        with pytest.raises(RuntimeError, match="power cut"):
            tiny_run(*overrides)
    assert seen[0].exit_codes == [1]
    time.sleep(1.1)  # W&B names a folder by the second
    tiny_run(*overrides)
    first, second = seen
    assert second.id == first.id
    assert second.exit_codes == [0]
    assert folders(tmp_path / "run") == [first.id, first.id]
    assert [[step for step, _ in run.logged] for run in seen] == [[1], [2]]


def test_disabled_it_writes_nothing(tiny_run: TinyRun, seen: list[Seen]) -> None:
    _, path = tiny_run("logger=wandb", "logger.mode=disabled", "trainer.max_epochs=1")
    assert seen[0].exit_codes == [0]
    assert not (path / "wandb").exists()
    assert (path / "result.json").exists()


# W&B, when it fails


def test_a_server_that_does_not_answer_costs_the_log_and_not_the_run(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def init(**_: Any) -> None:
        raise wandb.errors.CommError("timed out")

    monkeypatch.setattr(wandb, "init", init)
    with caplog.at_level(logging.WARNING):
        _, path = tiny_run(*OFFLINE)
    assert (path / "result.json").exists()
    assert [r.message for r in caplog.records if "W&B" in r.message] == [
        f"W&B does not answer (timed out); the run goes on, recorded in {path}"
    ]


def test_a_connection_that_breaks_is_mentioned_once(
    tiny_run: TinyRun, seen: list[Seen], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried = []

    def log(self: Any, *arguments: Any, **options: Any) -> None:
        tried.append(options)
        raise ConnectionError("broken pipe")

    monkeypatch.setattr(wandb.Run, "log", log)
    with caplog.at_level(logging.WARNING):
        result, path = tiny_run(*OFFLINE, "trainer.max_epochs=3")
    assert len(tried) == 3
    assert [r.message for r in caplog.records if "W&B" in r.message] == [
        "W&B fails (broken pipe); the run goes on without it"
    ]
    assert Result.load(path / "result.json") == result
    assert len(read_metrics(path / "metrics.csv")) == 3


@pytest.mark.parametrize("how", ["hangs", "raises"])
def test_an_end_that_does_not_come_is_not_waited_for(
    how: str,
    tiny_run: TinyRun,
    seen: list[Seen],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    began, finish = [], wandb.Run.finish

    def end(self: Any, exit_code: int) -> None:
        began.append(time.monotonic())
        if how == "raises":
            finish(self, exit_code=exit_code)
            raise ConnectionError("broken pipe")
        time.sleep(3)
        finish(self, exit_code=exit_code)

    monkeypatch.setattr(wandb.Run, "finish", end)
    with caplog.at_level(logging.WARNING):
        _, path = tiny_run(*OFFLINE, "logger.timeout=0.2")
    took = time.monotonic() - began[0]
    assert took < 1.5
    assert (path / "result.json").exists()
    (message,) = [r.message for r in caplog.records if "W&B" in r.message]
    assert ("not finished within 0.2 s" in message) == (how == "hangs")
    if how == "hangs":
        time.sleep(3.2 - took)  # let it end before the fixture takes W&B down


def test_the_logger_is_no_part_of_a_runs_identity(tiny_run: TinyRun, seen: list[Seen], tmp_path: Path) -> None:
    """A run without W&B and the same with it are one: the second finds the first one finished."""
    first, path = tiny_run("trainer.max_epochs=1")
    second, _ = tiny_run(*OFFLINE)
    assert second == first
    assert seen == []
    assert not (path / "wandb").exists()


# TensorBoard


def test_tensorboard_is_told_what_metrics_csv_holds(tiny_run: TinyRun) -> None:
    _, path = tiny_run("logger=tensorboard")
    events = EventAccumulator(str(path / "tensorboard"))
    events.Reload()
    rows = read_metrics(path / "metrics.csv")
    for key in ("test/network/accuracy", "test/momentum/accuracy", "train/loss_wrong"):
        scalars = events.Scalars(key)
        assert [scalar.step for scalar in scalars] == [1, 2], "the epoch"
        assert [scalar.value for scalar in scalars] == pytest.approx([row[key] for row in rows], rel=1e-6)


def test_without_tensorboard_the_extra_is_named_before_anything_is_trained(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(SlnlabError, match=r"pip install 'slnlab\[tensorboard\]'"):
        tiny_run("logger=tensorboard")
    assert not (tmp_path / "run" / "metrics.csv").exists()


def test_a_crash_closes_tensorboard(tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was logged until then is on the disk."""
    written = RunRecord.on_train_epoch_end

    def crash(self: RunRecord, trainer: Any, module: Any) -> None:
        written(self, trainer, module)
        raise RuntimeError("power cut")

    monkeypatch.setattr(RunRecord, "on_train_epoch_end", crash)
    with pytest.raises(RuntimeError, match="power cut"):
        tiny_run("logger=tensorboard")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert len(events.Scalars("test/network/accuracy")) == 1
