"""Signals: SIGINT, SIGTERM, SIGUSR1 and SIGUSR2 end a run after its current step.

`slnlab.callbacks.within_epoch` then saves the run, and it resumes with the next step.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

log = logging.getLogger(__name__)

SIGNALS: tuple[signal.Signals, ...] = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)
)

IMPATIENT = (signal.SIGINT, signal.SIGTERM)
"""Signals of people: a second one ends the process at once. Programs send SIGUSR1 and SIGUSR2, perhaps repeatedly."""

PATIENCE = 1.0
"""Seconds after the first impatient signal within which another counts as the same, as to a process and its group."""

_received: signal.Signals | None = None  # one for the whole process, as signals are
_impatient_since: float | None = None
_requests: dict[int, signal.Signals] = {}
"""Thread number → the request to stop the run of this thread alone."""


class Stopped(SystemExit):
    """A signal ended the run. The exit code is 128 + the signal's number, as in shells.

    It is no `Exception`, so that a sweep ends too and does not start its next run.

    Args:
        received: the signal.
    """

    def __init__(self, received: signal.Signals) -> None:
        super().__init__(128 + received)
        self.signal = received
        self.between_steps = False
        """True if the run stopped between two steps, False if an impatient signal interrupted one."""
        self.waiting = False
        """True if this process only waited for another process's run, and could make no progress."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.signal,), vars(self)


def received_signal() -> signal.Signals | None:
    """The signal since `obeying_signals` began, or the request to stop this thread's run; None if there is neither."""
    return _received or _requests.get(threading.get_ident())


def request_stop(received: signal.Signals, thread: int) -> None:
    """Stop the run of a thread as if this signal had arrived, until `clear_request`. Any thread may call it."""
    _requests.setdefault(thread, received)


def clear_request(thread: int) -> None:
    """Forget the request to a thread. Call it when its run has ended."""
    _requests.pop(thread, None)


def stop_if_requested() -> None:
    """Obey a signal. Call it between steps.

    Raises:
        Stopped: a signal arrived since `obeying_signals` began, or this thread's run got a request to stop.
    """
    if (received := received_signal()) is not None:
        raise stopped(received)


def stopped(received: signal.Signals) -> Stopped:
    """The exception to raise between two steps. A warning tells the user how to go on."""
    log.warning("%s: stopping. The same command goes on. Exit code %d.", received.name, 128 + received)
    exception = Stopped(received)
    exception.between_steps = True
    return exception


@contextmanager
def obeying_signals() -> Iterator[None]:
    """Obey signals inside the block: at the next `stop_if_requested`, or at once for a second `IMPATIENT` one.

    The former handlers return at the end. Outside the main thread Python allows no handlers, and the block does
    nothing.

    Raises:
        Stopped: a signal arrived. It is raised at the end of the block at the latest.
    """
    global _received, _impatient_since
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    take_signals()
    try:
        yield
        stop_if_requested()
    except SystemExit as error:
        if not isinstance(error, Stopped):  # Lightning's answer to SIGTERM, which would be exit code 0
            stop_if_requested()
        raise
    finally:
        for number, handler in before.items():
            if handler is not None:  # Python cannot restore a handler of C code
                signal.signal(number, handler)
        if _remember not in before.values():
            _received = _impatient_since = None


def take_signals() -> None:
    """Install our handlers, also over those of a library. Outside the main thread it does nothing."""
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, _remember)


def _remember(number: int, frame: FrameType | None) -> None:
    global _received, _impatient_since
    _received = _received or signal.Signals(number)
    if number in IMPATIENT:
        now = time.monotonic()
        if _impatient_since is not None and now - _impatient_since >= PATIENCE:
            raise Stopped(_received)
        _impatient_since = _impatient_since or now
