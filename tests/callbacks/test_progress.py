"""Progress lines on a terminal and in a log file."""

from __future__ import annotations

import fcntl
import logging
import os
import pty
import re
import select
import struct
import termios
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import commands
import pytest

from slnlab.callbacks import progress
from slnlab.callbacks.progress import EpochProgress
from slnlab.record.metrics import read_metrics
from slnlab.record.result import Result
from slnlab.schema.law import RowTitle

TinyRun = Callable[..., tuple[Result, Path]]


def on_a_terminal(columns: int, module: str, *arguments: str, cwd: Path) -> list[str]:
    """Output of a command on a terminal of so many columns, one string per carriage return."""
    terminal, inside = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    running = commands.Command(module, *arguments, cwd=cwd, terminal=os.ttyname(inside))
    written = b""
    while running.poll() is None or select.select([terminal], [], [], 0)[0]:
        if select.select([terminal], [], [], 0.1)[0]:
            written += os.read(terminal, 65536)
    os.close(inside)
    os.close(terminal)
    assert running.returncode == 0, written.decode()
    return re.split(r"[\r\n]+", written.decode())


def test_eighty_columns_show_epoch_accuracies_and_time_left(tmp_path: Path) -> None:
    tiny = ["data.train_size=200", "trainer.max_epochs=3", "trainer.accelerator=cpu", f"hydra.run.dir={tmp_path}/run"]
    shown = on_a_terminal(80, "slnlab.train", *tiny, cwd=tmp_path)
    assert shown.count("digits sym 0.4 sln seed=0") == 1
    bars = [line.rstrip() for line in shown if line.startswith("epoch ")]
    assert all(len(line) <= 80 for line in bars)
    last = read_metrics(tmp_path / "run" / "metrics.csv")[-1]
    network, momentum = (f"{100 * last[f'test/{name}/accuracy']:.1f} %" for name in ("network", "momentum"))
    labels = f"{100 * last['train/accuracy']:.1f} %"
    assert re.fullmatch(
        rf"epoch 3/3 \S+ +network {network}, momentum {momentum}, labels {labels}, 00:00 left", bars[-1]
    )


def test_a_log_file_gets_plain_lines(tiny_run: TinyRun, caplog: pytest.LogCaptureFixture, capfd: Any) -> None:
    with caplog.at_level(logging.INFO):
        _, path = tiny_run("trainer.progress=true", "trainer.max_epochs=3")
    lines = [record.message for record in caplog.records if record.name == progress.__name__]
    last = read_metrics(path / "metrics.csv")[-1]
    assert len(lines) == 2, "the first and the last epoch of a run of seconds"
    assert re.search(r": epoch 1/3, .* s/epoch, 00:0\d left$", lines[0])
    accuracies = ", ".join(f"{name} {100 * last[f'test/{name}/accuracy']:.1f} %" for name in ("network", "momentum"))
    assert lines[1].startswith(f"digits sym 0.4 sln seed=0: epoch 3/3, {accuracies}, ")
    assert "\r" not in capfd.readouterr().err


def test_without_logging_the_lines_go_to_standard_error(tiny_run: TinyRun, capfd: Any) -> None:
    logging.getLogger(progress.__name__).setLevel(logging.WARNING)
    try:
        tiny_run("trainer.progress=true")
    finally:
        logging.getLogger(progress.__name__).setLevel(logging.NOTSET)
    assert "epoch 2/2" in capfd.readouterr().err


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """The lines of a run whose epochs take `each` seconds."""

    def follow(
        epochs: int,
        each: float,
        metrics: dict[str, float] | None = None,
        first: int = 0,
        rows: dict[str, RowTitle] | None = None,
    ) -> list[str]:
        said: list[str] = []
        now = [0.0]
        monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
        monkeypatch.setattr(progress.log, "isEnabledFor", lambda level: True)
        monkeypatch.setattr(progress.log, "info", lambda form, text: said.append(form % text))
        callback = EpochProgress("a run", rows)
        trainer: Any = SimpleNamespace(max_epochs=epochs, current_epoch=first, callback_metrics=metrics or {})
        callback.on_train_start(trainer, None)  # type: ignore[arg-type]
        for epoch in range(first, epochs):
            now[0] += each
            trainer.current_epoch = epoch
            callback.on_train_epoch_end(trainer, None)  # type: ignore[arg-type]
        return said

    return follow


def test_a_long_run_logs_a_line_every_half_minute(lines: Callable[..., list[str]]) -> None:
    assert lines(10, 12.0) == [
        "a run: epoch 1/10, 12 s/epoch, 01:48 left",
        "a run: epoch 4/10, 12 s/epoch, 01:12 left",
        "a run: epoch 7/10, 12 s/epoch, 00:36 left",
        "a run: epoch 10/10, 12 s/epoch",
    ]


def test_a_resumed_run_estimates_time_from_its_own_epochs(lines: Callable[..., list[str]]) -> None:
    assert lines(100, 60.0, first=97)[0] == "a run: epoch 98/100, 60 s/epoch, 02:00 left"


def test_without_a_test_set_held_out_accuracy_is_shown(lines: Callable[..., list[str]]) -> None:
    metrics = {"val/network/accuracy": 0.5, "train/accuracy": 0.9}
    assert "noisy val: network 50.0 %, labels 90.0 %, " in lines(1, 1.0, metrics)[0]


def test_top_five_accuracy_is_no_second_row(lines: Callable[..., list[str]]) -> None:
    metrics = {"test/student/accuracy": 0.1, "test/student/top5_accuracy": 0.5}
    assert lines(1, 1.0, metrics)[0].count("student") == 1


def test_correct_validation_labels_are_shown_before_a_test_set(lines: Callable[..., list[str]]) -> None:
    metrics = {"test/network/accuracy": 0.4, "val_clean/network/accuracy": 0.7}
    assert ": epoch 1/1, val: network 70.0 %, " in lines(1, 1.0, metrics)[0]


def test_the_time_left_is_known_within_the_first_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four batches of 20 s make an epoch, and three epochs a run."""
    said, now = list[str](), [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress.log, "isEnabledFor", lambda level: True)
    monkeypatch.setattr(progress.log, "info", lambda form, text: said.append(form % text))
    callback, trainer = EpochProgress("a run"), SimpleNamespace(max_epochs=3, current_epoch=0, num_training_batches=4)
    callback.on_train_start(trainer, None)  # type: ignore[arg-type]
    for batch in range(4):
        now[0] += 20.0
        callback.on_train_batch_end(trainer, None, None, None, batch)  # type: ignore[arg-type]
    assert said == ["a run: 50% of the first epoch, 03:20 left"]


def test_main_rows_are_shown_before_secondary_ones(lines: Callable[..., list[str]]) -> None:
    rows = {"mean": RowTitle("Co-teaching"), "network": RowTitle("1", True), "network_2": RowTitle("2", True)}
    rows["ensemble"] = RowTitle("(ensemble)")
    metrics = {f"test/{name}/accuracy": i / 10 for i, name in enumerate(sorted(rows))}
    assert ": epoch 1/1, mean 10.0 %, ensemble 0.0 %, " in lines(1, 1.0, metrics, rows=rows)[0]
