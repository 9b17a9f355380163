"""Signals in this process; test_kill.py sends them to whole commands."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slnlab.methods import Method
from slnlab.methods.single_network import SingleNetwork
from slnlab.processes import stopping
from slnlab.processes.stopping import SIGNALS, Stopped, obeying_signals, stop_if_requested
from slnlab.record.result import Result
from slnlab.record.run_directory import RunDirectory

TinyRun = Callable[..., tuple[Result, Path]]
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 138, signal.SIGUSR2: 140}


@pytest.fixture(autouse=True)
def handlers_are_put_back() -> Any:
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert [signal.getsignal(number) for number in SIGNALS] == before
    stop_if_requested()  # and what came is forgotten


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "code"), CODES.items())
def test_a_signal_is_obeyed_between_steps(number: signal.Signals, code: int) -> None:
    steps = []

    @obeying_signals()
    def loop() -> None:
        for step in (1, 2, 3):
            if step == 2:
                send(number)
            steps.append(step)
            stop_if_requested()

    with pytest.raises(Stopped) as stopped:
        loop()
    assert steps == [1, 2], "the second step was finished"
    assert (stopped.value.signal, stopped.value.code) == (number, code)


def test_a_second_signal_is_obeyed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "PATIENCE", 0.0)
    sent = 0

    @obeying_signals()
    def loop() -> None:
        nonlocal sent
        for sent in (1, 2, 3):  # noqa: B007
            send(signal.SIGTERM)

    with pytest.raises(Stopped):
        loop()
    assert sent == 2


@pytest.mark.parametrize(
    "numbers",
    [
        # From the command to the processes of its runs; after which a Ctrl-C reaches them as well.
        [signal.SIGUSR2, signal.SIGUSR2, signal.SIGINT],
        # From `timeout`, to the command and to its group.
        [signal.SIGTERM, signal.SIGTERM],
    ],
)
def test_a_repeated_delivery_of_one_signal_is_ignored(numbers: list[signal.Signals]) -> None:
    sent = 0

    @obeying_signals()
    def loop() -> None:
        nonlocal sent
        for number in numbers:
            send(number)
            sent += 1
        stop_if_requested()

    with pytest.raises(Stopped) as stopped:
        loop()
    assert sent == len(numbers)
    assert stopped.value.signal == numbers[0]


def test_a_signal_after_the_last_step_is_not_forgotten() -> None:
    """Otherwise a sweep would not end."""
    with pytest.raises(Stopped), obeying_signals():
        send(signal.SIGTERM)


def test_a_nested_run_keeps_the_outer_handlers() -> None:
    reached = False

    @obeying_signals()
    def outer() -> None:
        nonlocal reached
        with obeying_signals():
            pass
        send(signal.SIGUSR1)
        reached = True
        stop_if_requested()

    with pytest.raises(Stopped):
        outer()
    assert reached


def test_other_exits_pass_through() -> None:
    with pytest.raises(SystemExit) as left, obeying_signals():
        raise SystemExit(3)
    assert left.value.code == 3


def test_another_thread_installs_no_handlers() -> None:
    seen = []

    def work() -> None:
        with obeying_signals():
            seen.append([signal.getsignal(number) for number in SIGNALS])

    before = [signal.getsignal(number) for number in SIGNALS]
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_run_stops_after_the_current_step_and_resumes(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ("trainer.max_epochs=3", "data.batch_size=10")
    whole, _ = tiny_run(*overrides, directory=tmp_path / "whole")
    loss, steps = SingleNetwork.loss, []

    def told(self: SingleNetwork, batch: Any) -> Any:
        steps.append(self.steps)
        if self.steps == 14:
            send(signal.SIGUSR2)
        return loss(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(SingleNetwork, "loss", told)
        with pytest.raises(Stopped):
            tiny_run(*overrides)
    assert steps[-1] == 14
    assert not RunDirectory(tmp_path / "run").finished
    resumed, _ = tiny_run(*overrides)
    assert resumed.rows == whole.rows


def test_lightnings_sigterm_handler_is_replaced(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning would exit with code 0, as if all were done, if it got the signal first."""
    evaluated = Method.on_validation_epoch_end

    def told(self: Method) -> None:
        send(signal.SIGTERM)
        evaluated(self)

    monkeypatch.setattr(Method, "on_validation_epoch_end", told)
    with pytest.raises(SystemExit) as stopped:
        tiny_run()
    assert stopped.value.code == 143
    assert not RunDirectory(tmp_path / "run").finished


def test_a_run_waiting_for_another_process_can_be_stopped(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")

    @obeying_signals()
    def wait() -> None:
        send(signal.SIGTERM)
        with RunDirectory(tmp_path / "run").locked(wait=True):
            pytest.fail("two in one directory")

    # A second signal ends the waiting in any case, so that this test never hangs.
    second = threading.Timer(30, send, [signal.SIGTERM])
    second.start()
    with directory.locked(), pytest.raises(Stopped):
        wait()
    assert second.is_alive(), "it took the second signal"
    second.cancel()


def test_the_reason_of_a_stop_travels_between_processes() -> None:
    """The first of several processes tells the others."""
    stopped = Stopped(signal.SIGUSR2)
    stopped.between_steps = True
    copied = pickle.loads(pickle.dumps(stopped))
    assert (copied.code, copied.signal, copied.between_steps) == (CODES[signal.SIGUSR2], signal.SIGUSR2, True)
