"""Being told to stop: SIGINT, SIGTERM, SIGUSR1 and SIGUSR2 end a run after the step that it is in.

`slnlab.callbacks.within_epoch` saves it then, and it goes on with the step after.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

log = logging.getLogger(__name__)

SIGNALS: tuple[signal.Signals, ...] = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)
)

IMPATIENT = (signal.SIGINT, signal.SIGTERM)
"""Of which a second one is obeyed at once. SIGUSR1 and SIGUSR2 are sent by programs, ours too, perhaps repeatedly."""

PATIENCE = 1.0
"""Seconds after the first of them in which another is the same one: sent to a process and to its group, say."""

_received: signal.Signals | None = None  # of the process, as signals are
_impatient_since: float | None = None
_of_threads: dict[int, signal.Signals] = {}
"""By a thread's number: what its run alone was told."""


class Stopped(SystemExit):
    """A signal has ended the run. The process's exit code is 128 + the signal's number, as shells have it.

    No `Exception`, so that a sweep ends too instead of starting its next run.
    """

    def __init__(self, received: signal.Signals) -> None:
        super().__init__(128 + received)
        self.signal = received
        self.between_steps = False
        """Rather than in the middle of whatever was going on."""
        self.waiting = False
        """For another process, to end a run; so there was nothing that this one could have got on with."""


def received_signal() -> signal.Signals | None:
    """The signal that has come since `obeying_signals` began, or that this thread's run was told; if any."""
    return _received or _of_threads.get(threading.get_ident())


def request_stop(received: signal.Signals, thread: int) -> None:
    """Stop the run of a thread as if this signal had come, until `forget`. Any thread may call it."""
    _of_threads.setdefault(thread, received)


def clear_request(thread: int) -> None:
    """The run that was told to stop has ended."""
    _of_threads.pop(thread, None)


def stop_if_requested() -> None:
    """To be called between steps.

    Raises:
        Stopped: a signal has come since `obeying_signals` began, or this thread's run was told to stop.
    """
    if (received := received_signal()) is not None:
        raise stopped(received)


def stopped(received: signal.Signals) -> Stopped:
    """The exception to raise, after telling the user what happens next."""
    log.warning("%s: stopping. The same command goes on. Exit code %d.", received.name, 128 + received)
    exception = Stopped(received)
    exception.between_steps = True
    return exception


@contextmanager
def obeying_signals() -> Iterator[None]:
    """Inside the block a signal is obeyed at the next `stop_if_requested`; a second one that is `IMPATIENT`, at once.

    The handlers that were there are put back afterwards. Outside the main thread, where Python allows no handlers,
    the block does nothing.

    Raises:
        Stopped: a signal came; at the latest at the end of the block.
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
            if handler is not None:  # one that was not installed from Python cannot be put back
                signal.signal(number, handler)
        if _remember not in before.values():
            _received = _impatient_since = None


def take_signals() -> None:
    """Install our handlers, again where somebody has replaced them. Outside the main thread: nothing."""
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
