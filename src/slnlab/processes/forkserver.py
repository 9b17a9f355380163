"""Processes that need not import PyTorch first: forks of one that has done nothing else (multiprocessing's forkserver).

A new interpreter takes five seconds until it can train, a fork of a warm one none. Of a process that has used a GPU, or
that has threads, no fork is sound; the server has neither. Elsewhere than on Linux, processes are new interpreters.
"""

from __future__ import annotations

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
    """How to start processes; if warm, on Linux, the server runs already.

    Args:
        warm: False: they are to be new interpreters (they use GPUs).
        modules: that the processes will need.
        environment: variables that the server has beside this process's: those that count when a module is imported.
    """
    if not warm or not LINUX:
        return multiprocessing.get_context("spawn")
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload([__name__, *modules])
    before = {name: os.environ.get(name) for name in environment or ()}
    os.environ.update(environment or {})
    resource_tracker.ensure_running()  # which sets the mask back
    # A signal to the whole process group must not end it: nobody else can say when the processes have ended, and how.
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
    """What a process that is started takes over from the one that starts it, though it is a fork of another one: its
    environment, standard output and standard error. To be pickled as an argument of the process."""

    def __init__(self) -> None:
        self.environment = dict(os.environ)

    def __getstate__(self) -> dict[str, Any]:
        return {"environment": self.environment, "outputs": [reduction.DupFd(1), reduction.DupFd(2)] if LINUX else []}

    def take_over(self) -> None:
        """In the process."""
        os.environ.clear()
        os.environ.update(self.environment)
        for number, output in enumerate(vars(self).pop("outputs"), 1):
            opened = output.detach()
            os.dup2(opened, number)
            os.close(opened)


def end_with_parent(number: signal.Signals) -> None:
    """This process, started by multiprocessing, gets the signal as soon as the one that started it has ended."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os.kill(os.getpid(), number)

    threading.Thread(target=watch, daemon=True, name="end with parent").start()


if LINUX and signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ()):  # this is the server, see `context`
    os.register_at_fork(after_in_child=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS))
