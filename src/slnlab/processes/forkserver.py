"""Warm child processes: forks of a server that has only imported PyTorch (multiprocessing's forkserver).

A new interpreter must import PyTorch before it can train; a fork of the server need not. A process with threads or a
used GPU must not fork; the server has neither. Systems other than Linux start new interpreters.
"""

from __future__ import annotations

import gc
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver, reduction, resource_tracker
from multiprocessing.context import BaseContext
from typing import Any

from slnlab.processes.stopping import SIGNALS

LINUX = sys.platform == "linux"


def context(warm: bool, modules: Sequence[str], environment: Mapping[str, str] | None = None) -> BaseContext:
    """The start method for child processes. It starts the server first, if it is warm and on Linux.

    Args:
        warm: False starts new interpreters, as processes with GPUs need them.
        modules: modules that the server imports in advance.
        environment: variables of the server beside those of this process; they matter while modules are imported.
    """
    if not warm or not LINUX:
        return multiprocessing.get_context("spawn")
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload([__name__, *modules])
    before = {name: os.environ.get(name) for name in environment or ()}
    os.environ.update(environment or {})
    resource_tracker.ensure_running()  # first, because its start resets the signal mask
    # A signal to the whole process group must not end the server: only it knows when and how its children end.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
    return made


class Surroundings:
    """The environment, standard output and standard error of the starting process, for a child process.

    It travels as a pickled argument of the child.
    """

    def __init__(self) -> None:
        self.environment = dict(os.environ)

    def __getstate__(self) -> dict[str, Any]:
        return {"environment": self.environment, "outputs": [reduction.DupFd(1), reduction.DupFd(2)] if LINUX else []}

    def take_over(self) -> None:
        """Adopt them. Call it in the child."""
        os.environ.clear()
        os.environ.update(self.environment)
        for number, output in enumerate(vars(self).pop("outputs"), 1):
            opened = output.detach()
            if opened != number:  # a new interpreter (spawn) has them in their places already
                os.dup2(opened, number)
                os.close(opened)


def end_with_parent(number: signal.Signals) -> None:
    """Send this child process a signal as soon as its parent has ended."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os.kill(os.getpid(), number)

    threading.Thread(target=watch, daemon=True, name="end with parent").start()


def _begin_child() -> None:
    gc.enable()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


if LINUX and signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ()):  # only the server, see `context`
    # Imported modules are never garbage: a search of them takes a second, and copies the memory that a child shares.
    gc.disable()
    os.register_at_fork(before=gc.freeze, after_in_child=_begin_child)
