"""Loggers get every metric, and their failures never harm a run."""

from __future__ import annotations

import csv
import importlib
import json
import logging
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import wandb
from omegaconf import DictConfig, OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto.wandb_internal_pb2 import Record

from slnlab.config import CONF_DIR, check, compose, search_in
from slnlab.errors import ConfigError, SlnlabError
from slnlab.loggers import wandb as wandb_logging
from slnlab.loggers.tensorboard import tensorboard_logger
from slnlab.loggers.wandb import wandb_logger
from slnlab.loggers.wandb_recordings import recordings
from slnlab.record.metrics import read_metrics
from slnlab.record.result import Result
from slnlab.record.run_directory import RunDirectory
from slnlab.schema.wandb import settings as wandb_settings
from slnlab.training import assemble
from slnlab.training.settling import settle

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


def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Seen]]:
    """The W&B runs of this test, in their order; nothing comes from or stays in the environment."""
    clean_environment(monkeypatch)
    wandb.teardown()  # what another test has told it
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


def records(content: bytes) -> Iterator[Any]:
    """What a W&B file holds. It is a log as LevelDB's: blocks of 32 KiB, and records that may go over several."""
    place, payload = 7, b""
    while place < len(content):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        size, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        payload += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # a whole record, or the last part of one
            yield Record.FromString(payload)
            payload = b""


def epochs(recording: Path) -> list[int]:
    """The steps that a finished W&B recording holds, as `wandb sync` would send them."""
    (file,) = recording.glob("*.wandb")
    for _ in range(100):  # W&B's own process writes it, up to a moment later
        found = list(records(file.read_bytes()))
        if any(record.HasField("exit") for record in found):
            return [record.history.step.num for record in found if record.HasField("history")]
        time.sleep(0.05)
    raise AssertionError(f"{file} has no end")


Start = Callable[..., Any]


@pytest.fixture
def start(seen: list[Seen], tmp_path: Path) -> Start:
    """Start W&B as a run in `tmp_path` does."""

    def wandb_of_a_run(**keys: Any) -> Any:
        names = {"group": "group", "title": "title", "about": ["digits", "sym 0.4", "ce"], "config": {}}
        unsaid = dict.fromkeys(("mode", "project", "entity", "tags", "timeout"))
        return wandb_logger(RunDirectory(tmp_path), **(unsaid | names | keys))

    return wandb_of_a_run


# W&B


def test_two_runs_in_one_process_are_two_wandb_runs(tiny_run: TinyRun, tmp_path: Path, seen: list[Seen]) -> None:
    """With Lightning's logger the second one goes on in the first one's."""
    paths = [tiny_run(*OFFLINE, f"seed={seed}", directory=tmp_path / f"seed{seed}")[1] for seed in (0, 1)]
    assert seen[0].id != seen[1].id
    assert [folders(path) for path in paths] == [[seen[0].id], [seen[1].id]]
    assert [json.loads((path / "wandb.json").read_text())["id"] for path in paths] == [seen[0].id, seen[1].id]
    assert [run.name for run in seen] == ["digits sym 0.4 sln seed=0", "digits sym 0.4 sln seed=1"]
    assert [run.exit_codes for run in seen] == [[0], [0]]
    assert wandb.run is None, "nothing is left open"


def test_a_users_own_wandb_run_is_left_alone(tiny_run: TinyRun, tmp_path: Path, seen: list[Seen]) -> None:
    """In a notebook, say."""
    own = wandb.init(project="theirs", mode="offline", dir=str(tmp_path))
    _, path = tiny_run(*OFFLINE)
    assert [run.id for run in seen] == [own.id, *folders(path)]
    assert [(run.project, run.exit_codes, len(run.logged)) for run in seen] == [("theirs", [], 0), ("slnlab", [0], 1)]
    own.finish(exit_code=0)


def test_wandb_leaves_no_environment_variable(tiny_run: TinyRun, seen: list[Seen]) -> None:
    """WANDB_MODE there would make the next run, of whomever, an offline one."""
    tiny_run(*OFFLINE)
    assert len(seen) == 1
    assert "WANDB_MODE" not in os.environ


def test_a_wandb_group_holds_the_seeds_of_one_mean(tiny_run: TinyRun, tmp_path: Path, seen: list[Seen]) -> None:
    """Seeds share it, another σ has another one."""
    for number, overrides in enumerate((["seed=0"], ["seed=1"], ["sln.sigma=0.25"])):
        tiny_run(*OFFLINE, *overrides, directory=tmp_path / str(number))
    assert seen[0].group == seen[1].group != seen[2].group
    assert all(run.group.startswith("digits sym sln ") for run in seen)


def test_wandb_gets_the_rows_of_metrics_csv(tiny_run: TinyRun, seen: list[Seen]) -> None:
    _, path = tiny_run(*OFFLINE, "trainer.max_epochs=2", "logger.project=noises", "logger.tags=[one,two]")
    (run,) = seen
    assert run.logged == list(enumerate(read_metrics(path / "metrics.csv"), start=1)), "by epoch"
    assert {"test/network/accuracy", "test/momentum/accuracy", "train/memorised"} <= run.logged[0][1].keys()
    assert run.project == "noises"
    assert run.tags == ("digits", "sym 0.4", "sln", "one", "two"), "to filter by in W&B"
    assert run.config["sln"] == {"sigma": 1.0}
    assert run.config["noise"]["rate"] == 0.4


@pytest.fixture
def power_cut(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Any]:
    """Inside the context, a run ends when an epoch (from 1) has been logged and its checkpoint is to be written."""

    @contextmanager
    def cut(epoch: int) -> Iterator[None]:
        saved = pl.Trainer.save_checkpoint

        def save(self: pl.Trainer, *arguments: Any, **options: Any) -> None:
            if self.current_epoch + 1 == epoch:
                raise RuntimeError("power cut")
            saved(self, *arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(pl.Trainer, "save_checkpoint", save)
            yield

    return cut


def test_a_crash_is_reported_and_a_resume_keeps_the_wandb_run(
    tiny_run: TinyRun, tmp_path: Path, seen: list[Seen], power_cut: Callable[[int], Any]
) -> None:
    """The epoch that is done again is recorded once."""
    overrides = (*OFFLINE, "trainer.max_epochs=2")
    with power_cut(1), pytest.raises(RuntimeError, match="power cut"):
        tiny_run(*overrides)
    assert seen[0].exit_codes == [1]
    time.sleep(1.1)  # W&B names a folder by the second
    tiny_run(*overrides)
    first, second = seen
    assert second.id == first.id
    assert second.exit_codes == [0]
    assert folders(tmp_path / "run") == [first.id, first.id]
    assert [[step for step, _ in run.logged] for run in seen] == [[1], [2]]


def test_disabled_wandb_writes_nothing(tiny_run: TinyRun, seen: list[Seen]) -> None:
    _, path = tiny_run("logger=wandb", "logger.mode=disabled", "trainer.max_epochs=1")
    assert seen[0].exit_codes == [0]
    assert not (path / "wandb").exists()
    assert (path / "result.json").exists()


def test_wandb_records_a_repeated_epoch_once(start: Start, tmp_path: Path) -> None:
    """A run that is killed between its row and its checkpoint does the epoch again; `wandb sync` would send both."""
    for steps in ([1, 2, 3], [3, 4], [2, 3, 4, 5]):
        logger = start(mode="offline")
        for step in steps:
            logger.log_metrics({"epoch": step}, step=step)
        logger.finish(1)
    assert [epochs(found.path) for found in recordings([tmp_path])] == [[1, 2, 3], [4], [5]]


# W&B's environment, and what W&B refuses


def test_a_resumed_run_sends_the_epochs_that_wandb_lacks(start: Start, tmp_path: Path) -> None:
    """A lost node had logged four epochs, of which two had arrived; its checkpoint is of the third."""
    logger = start(mode="offline")
    logger.log_metrics({"epoch": 1}, step=1)
    logger.log_metrics({"epoch": 2}, step=2)
    logger.finish(1)
    logger = start(mode="offline")
    logger.catch_up([{"epoch": 1}, {"epoch": 2}, {"epoch": 3}])
    logger.log_metrics({"epoch": 4}, step=4)
    logger.finish(0)
    assert [epochs(found.path) for found in recordings([tmp_path])] == [[1, 2], [3, 4]]


def test_the_environment_applies_where_the_configuration_is_silent(
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    caplog: pytest.LogCaptureFixture,
) -> None:
    scratch = tmp_path_factory.mktemp("scratch")
    said = {"MODE": "offline", "PROJECT": "mine", "ENTITY": "lab", "DIR": str(scratch), "TAGS": "one,two"}
    ours = {"RUN_ID": "same", "NAME": "same", "RUN_GROUP": "same", "RESUME": "never"}
    for name, value in {**said, **ours, "NOTES": "night", "FINISH_TIMEOUT": "7"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    logger = start()
    run = logger.experiment
    assert (run.offline, run.project, run.entity, run.notes) == (True, "mine", "lab", "night")
    assert run.tags == ("digits", "sym 0.4", "ce", "one", "two")
    assert run.settings.finish_timeout == 7
    assert run.id == json.loads((tmp_path / "wandb.json").read_text())["id"] != "same"
    assert (run.name, run.group) == ("title", "group")
    assert "WANDB_RUN_ID, WANDB_RESUME, WANDB_NAME, WANDB_RUN_GROUP: without effect" in caplog.text
    logger.log_metrics({"epoch": 1}, step=1)
    logger.finish(0)
    assert len(list((scratch / "wandb").glob("offline-run-*"))) == 1
    (found,) = recordings([tmp_path])
    assert epochs(found.path) == [1], "found by sync, although it lies elsewhere"


@pytest.mark.parametrize(
    ("environment", "typed", "chosen"),
    [
        ({}, {}, {"mode": "online", "project": "slnlab", "run_tags": ("digits",), "finish_timeout": 60}),
        ({"WANDB_MODE": "disabled"}, {}, {"mode": "disabled"}),
        ({"WANDB_MODE": "dryrun"}, {}, {"mode": "offline"}),
        ({"WANDB_DISABLED": "true"}, {}, {"mode": "disabled"}),
        ({"WANDB_DISABLED": "false"}, {}, {"mode": "online"}),
        ({"WANDB_PROJECT": "", "WANDB_FINISH_TIMEOUT": "0"}, {}, {"project": "slnlab", "finish_timeout": 60}),
        ({"WANDB_SILENT": "false", "WANDB_INIT_TIMEOUT": "5"}, {}, {"silent": False, "init_timeout": 5}),
        ({"WANDB_MODE": "offline", "WANDB_DISABLED": "true"}, {"mode": "online"}, {"mode": "online"}),
        ({"WANDB_PROJECT": "theirs"}, {"project": "a"}, {"project": "a"}),
        ({"WANDB_ENTITY": "theirs"}, {"entity": "a"}, {"entity": "a"}),
        ({"WANDB_TAGS": "one,two"}, {"tags": ["three"]}, {"run_tags": ("digits", "three")}),
        ({"WANDB_TAGS": "one,two"}, {"tags": []}, {"run_tags": ("digits",)}),
        ({"WANDB_INIT_TIMEOUT": "5"}, {"timeout": 2.0}, {"init_timeout": 2, "finish_timeout": 2}),
    ],
)  # fmt: skip
def test_typed_keys_win_over_the_environment_over_defaults(
    environment: dict[str, str],
    typed: dict[str, Any],
    chosen: dict[str, Any],
    seen: list[Seen],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = wandb_settings.settings(**typed, about=["digits"], directory="here")
    assert {key: settings[key] for key in chosen} == chosen


@pytest.fixture(scope="module")
def composed() -> DictConfig:
    return compose(["logger=wandb"])


def test_default_values_leave_the_choice_to_the_environment(
    composed: DictConfig, seen: list[Seen], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    (logger,) = assemble.loggers(settle(composed), RunDirectory(tmp_path))
    assert [(run.run.offline, run.project) for run in seen] == [(True, "mine")]
    assemble.close([logger], exit_code=0)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("tags", ["a" * 65], r"refused by W&B: Tag 'a+\.\.\.a+' is 65 characters"),
        ("tags", ["one", ""], "refused by W&B: Tag at index 1 is empty"),
        ("project", "noise/asym", "'noise/asym' is not allowed: refused by W&B: .* found '/'"),
        ("project", "a:b", "found ':'"),
        ("project", "a" * 129, "exceeded 128 characters"),
        ("project", "", "'' is not allowed: it is empty; null"),
        ("entity", "me/noise", "a user or team name cannot contain '/'"),
        ("entity", "", "'' is not allowed: it is empty; null"),
    ],
)
def test_a_key_refused_by_wandb_is_a_configuration_error(
    key: str, value: Any, message: str, composed: DictConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean_environment(monkeypatch)
    config = OmegaConf.merge(composed, {"logger": {key: value}})
    assert isinstance(config, DictConfig)
    with pytest.raises(ConfigError, match=f"logger.{key}: .*{message}"):
        check(config)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("WANDB_MODE", "sometimes", "Input should be 'online', 'offline'"),
        ("WANDB_PROJECT", "noise#1", "Invalid project name"),
        ("WANDB_TAGS", f"one,{'a' * 65}", "is 65 characters"),
        ("WANDB_TAGS", "one,,two", "Tag at index 1 is empty"),
        ("WANDB_ENTITY", "me/noise", "cannot contain '/'"),
        ("WANDB_BASE_URL", "wandb", "valid URL"),
        ("WANDB_FORK_FROM", "abc?_step=3", "mutually exclusive"),
    ],
)
def test_a_variable_refused_by_wandb_is_a_configuration_error(
    name: str, value: str, message: str, composed: DictConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean_environment(monkeypatch)
    check(composed)
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"logger: {name} in the environment is refused by W&B: .*{message}"):
        check(composed)


def test_a_secret_refused_by_wandb_is_not_printed(composed: DictConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    clean_environment(monkeypatch)
    monkeypatch.setenv("WANDB_API_KEY", "secret ")
    with pytest.raises(ConfigError, match="WANDB_API_KEY in the environment is refused by W&B") as caught:
        check(composed)
    assert "secret" not in str(caught.value)


def test_generated_names_are_shortened_for_wandb(start: Start) -> None:
    """A data set may be called what its owner likes."""
    name = "flowers_collected_from_the_web_summer_2026_second_round_relabelled_v3"
    title, group = f"{name} {name} ce seed=12", f"{name} {name} ce 0123456789"
    run = start(mode="offline", about=[name, "", "ce"], title=title, group=group).experiment
    assert [len(tag) for tag in run.tags] == [64, 2]
    assert run.tags[0].startswith("flowers_collected")
    assert run.tags[0].endswith("relabelled_v3")
    assert len(run.name) == len(run.group) == 128
    assert run.name.endswith("ce seed=12")
    assert run.group.endswith("ce 0123456789")
    run.finish(exit_code=0)


# W&B, when it fails


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch, seen: list[Seen]) -> None:
    """A server at a port where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef0123456789abcdef01234567")


def test_an_unresponsive_server_leaves_an_offline_recording(
    start: Start, unreachable: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logger = start(timeout=0.5)
    (message,) = [r.message for r in caplog.records if r.name == "slnlab.loggers.wandb"]
    assert message.startswith("W&B does not take the run (")
    assert message.endswith(f"recorded offline; `python -m slnlab.dashboard sync {tmp_path}` sends it")
    logger.log_metrics({"epoch": 1}, step=1)
    logger.finish(0)
    assert [(found.state, epochs(found.path)) for found in recordings([tmp_path])] == [("to send", [1])]


def test_a_users_own_run_continues_without_the_server(
    start: Start, unreachable: None, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    own = wandb.init(mode="offline", dir=str(tmp_path_factory.mktemp("own")), reinit="create_new")
    logger = start(timeout=0.5)
    assert logger.experiment.offline
    own.log({"a": 1}, step=1)
    for run in (own, logger.experiment):
        run.finish(exit_code=0)
    assert epochs(Path(own.dir).parent) == [1]
    assert len(recordings([tmp_path])) == 1


def test_wandb_never_prompts_for_a_key(
    start: Start, seen: list[Seen], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A terminal does not mean that somebody sits there."""

    class Terminal:
        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            raise AssertionError("waits for ever")

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdin", terminal)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    logger = start()
    assert logger.experiment.offline
    assert "`wandb login`" in caplog.text
    assert sys.stdin is terminal
    logger.finish(0)


def test_a_run_continues_if_wandb_does_not_start(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def init(**_: Any) -> None:
        raise wandb.errors.CommError("no service")

    monkeypatch.setattr(wandb, "init", init)
    assert start(mode="offline") is None
    assert "W&B does not start (no service); the run goes on without it" in caplog.text


class Online:
    """A W&B run whose network is lost in the middle; W&B keeps what it could not send."""

    offline, disabled = False, False
    starting_step = 0

    def __init__(self, settings: wandb.Settings) -> None:
        self.id = settings.run_id
        self.folder = Path(settings.root_dir) / "wandb" / f"run-20260101_000000-{self.id}"
        self.dir = str(self.folder / "files")
        self.folder.mkdir(parents=True)
        (self.folder / f"run-{self.id}.wandb").touch()

    def log(self, data: dict[str, float], step: int) -> None:
        pass

    def finish(self, exit_code: int) -> None:
        raise TimeoutError("Timed out finishing run.")


def test_sync_sends_earlier_unsent_data_of_an_online_run_first(
    start: Start, seen: list[Seen], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(wandb, "init", lambda settings, **_: Online(settings))
        logger = start(mode="online")
        logger.log_metrics({"epoch": 1}, step=1)
        assert recordings([tmp_path]) == [], "W&B is sending it"
        logger.finish(0)
    assert f"(Timed out finishing run.); `python -m slnlab.dashboard sync {tmp_path}` sends the rest" in caplog.text
    (first,) = recordings([tmp_path])
    assert first.state == "to send"

    logger = start(mode="online")
    assert logger.experiment.offline
    assert "has not got this run's earlier epochs yet" in caplog.text
    logger.log_metrics({"epoch": 1}, step=1)
    logger.log_metrics({"epoch": 2}, step=2)
    logger.finish(0)
    _, second = recordings([tmp_path])
    assert epochs(second.path) == [2]


def test_a_broken_connection_is_reported_once(
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
def test_a_hanging_wandb_finish_is_not_awaited(
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
    monkeypatch.setattr(wandb_logging, "GRACE", 0)
    with caplog.at_level(logging.WARNING):
        _, path = tiny_run(*OFFLINE, "logger.timeout=0.2")
    took = time.monotonic() - began[0]
    if how == "hangs":
        assert took < 3, "the run does not wait for it"
    assert (path / "result.json").exists()
    (message,) = [r.message for r in caplog.records if "W&B" in r.message]
    assert ("(no answer)" in message) == (how == "hangs")
    assert message.endswith(f"`python -m slnlab.dashboard sync {path}` sends the rest")
    if how == "hangs":
        time.sleep(max(0, 3.2 - took))  # let it end before the fixture takes W&B down


def test_the_logger_does_not_change_the_identity(tiny_run: TinyRun, seen: list[Seen], tmp_path: Path) -> None:
    """A run without W&B and the same with it are one: the second finds the first one finished."""
    first, path = tiny_run("trainer.max_epochs=1")
    second, _ = tiny_run(*OFFLINE)
    assert second == first
    assert seen == []
    assert not (path / "wandb").exists()


# One's own


@pytest.mark.parametrize("name", ["CSVLogger", "TensorBoardLogger", "WandbLogger"])
def test_a_logger_class_of_lightnings_is_refused(name: str) -> None:
    """They take other arguments than those of slnlab, and would fail once the data are prepared."""
    with pytest.raises(ConfigError) as error:
        check(compose(["logger=tensorboard", f"logger._target_=pytorch_lightning.loggers.{name}"]))
    said = f"logger._target_: pytorch_lightning.loggers.{name} does not take group, title, about, config; a logger is"
    assert str(error.value).startswith(said)


def test_the_pages_own_logger_gets_the_rows_of_metrics_csv(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (CONF_DIR.parent / "docs" / "wandb.md").read_text()
    for text, name in re.findall(r"```(?:python|yaml)\n(# (\S+)\n.*?)```", page, re.DOTALL):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    search_in([str(tmp_path / "conf")])
    monkeypatch.setitem(sys.modules, "mine", importlib.import_module("mine"))  # it is undone
    _, path = tiny_run("method=ce", "logger=csv_files")
    with (path / "lightning" / "version_0" / "metrics.csv").open(encoding="utf-8", newline="") as file:
        logged = list(csv.DictReader(file))
    assert [row["step"] for row in logged] == ["1", "2"]
    rows = read_metrics(path / "metrics.csv")
    assert [float(row["test/network/accuracy"]) for row in logged] == [row["test/network/accuracy"] for row in rows]
    assert "title: digits sym 0.4 ce" in (path / "lightning" / "version_0" / "hparams.yaml").read_text()


# TensorBoard


def test_tensorboard_gets_the_rows_of_metrics_csv(tiny_run: TinyRun) -> None:
    _, path = tiny_run("logger=tensorboard")
    events = EventAccumulator(str(path / "tensorboard"))
    events.Reload()
    rows = read_metrics(path / "metrics.csv")
    for key in ("test/network/accuracy", "test/momentum/accuracy", "train/loss_wrong"):
        scalars = events.Scalars(key)
        assert [scalar.step for scalar in scalars] == [1, 2], "the epoch"
        assert [scalar.value for scalar in scalars] == pytest.approx([row[key] for row in rows], rel=1e-6)


def test_tensorboard_shows_a_repeated_epoch_once(tmp_path: Path) -> None:
    """A run that is killed between its row and its checkpoint does the epoch again; kill -9 cuts a record in two."""
    for values in ({1: 0.1, 2: 0.2, 3: 0.3}, {3: 1.3, 4: 1.4}, {2: 2.2, 3: 2.3, 4: 2.4, 5: 2.5}):
        logger: Any = tensorboard_logger(RunDirectory(tmp_path))
        for step, value in values.items():
            logger.log_metrics({"accuracy": value, "epoch": step}, step=step)
        logger.finalize("failed")
        written = max((tmp_path / "tensorboard").glob("events.*"), key=lambda path: path.stat().st_mtime_ns)
        written.write_bytes(written.read_bytes() + b"\x18\0\0")
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    for key in ("accuracy", "epoch"):
        assert [scalar.step for scalar in events.Scalars(key)] == [1, 2, 3, 4, 5]
    assert [scalar.value for scalar in events.Scalars("accuracy")] == pytest.approx([0.1, 2.2, 2.3, 2.4, 2.5])


def test_missing_tensorboard_names_the_extra_before_training(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(SlnlabError, match=r"pip install 'slnlab\[tensorboard\]'"):
        tiny_run("logger=tensorboard")
    assert not (tmp_path / "run" / "metrics.csv").exists()


def test_a_crash_closes_tensorboard_and_a_resumed_run_repeats_nothing(
    tiny_run: TinyRun, tmp_path: Path, power_cut: Callable[[int], Any]
) -> None:
    """Everything logged before is on the disk."""

    def steps() -> list[int]:
        events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
        events.Reload()
        return [scalar.step for scalar in events.Scalars("test/network/accuracy")]

    with power_cut(2), pytest.raises(RuntimeError, match="power cut"):
        tiny_run("logger=tensorboard")
    assert steps() == [1, 2]
    tiny_run("logger=tensorboard")
    assert steps() == [1, 2]
