"""Commands of slnlab in new processes that need not import torch first.

A forkserver, one for all processes of pytest, has imported what a run needs, and each command is a fork of it: as good
as a new interpreter, five seconds sooner. What a test says of the start itself (that torch is not imported, say) wants
a real one: `sys.executable`.
"""

from __future__ import annotations

import atexit
import importlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any

from slnlab.processes import forkserver as warm
from slnlab.processes.stopping import SIGNALS

COMMANDS = ["slnlab.train", "slnlab.report", "slnlab.tune"]
IMPORTED = ["slnlab.training.assemble", *COMMANDS, "slnlab.data.digits", "submitit"]

_known: Any = forkserver._forkserver  # type: ignore[attr-defined]


def share() -> str:
    """The address of this process's server, for the `join` of others."""
    warm.context(True, IMPORTED)
    return str(_known._forkserver_address)


def join(address: str) -> None:
    """Have the commands and the runs of this process forked from a server that another process has started."""
    _known._forkserver_address, _known._forkserver_alive_fd = address, os.open(os.devnull, os.O_RDONLY)
    # It is no child of this process, which so cannot ask whether it is alive.
    _known.ensure_running = forkserver.ensure_running = resource_tracker.ensure_running


class Command:
    """`python -m module arguments`, running; the interface is that of `subprocess.Popen`.

    Args:
        module: with a function `main` that reads `sys.argv`.
        arguments: as typed.
        cwd: where; None: here.
        env: the whole environment; None: this process's. Of PYTHONPATH only what is not here already counts.
        merged: what goes to standard error is among what goes to standard output.
        terminal: name of the terminal that gets both; None: `communicate` returns them.
        session: in a session of its own, so that `os.killpg` reaches whatever it starts.
    """

    def __init__(
        self,
        module: str,
        *arguments: str,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        merged: bool = False,
        terminal: str | None = None,
        session: bool = False,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="command-")
        self._out, self._err = (Path(self._folder.name) / name for name in ("out", "err"))
        self.args = [module, *arguments]
        wanted = (str(cwd or Path.cwd()), dict(os.environ if env is None else env), session)
        files = (terminal or str(self._out), terminal or str(self._out if merged else self._err))
        # A process that pytest's own is to outlive, but that may have children of its own: no daemon.
        self._process: Any = warm.context(True, IMPORTED).Process(target=_run, args=(self.args, wanted, files))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        if self._process.is_alive():
            os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """Wait for its end: what it has written to standard output and to standard error."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
            raise subprocess.TimeoutExpired(self.args, timeout, self._read(self._out))
        return self._read(self._out), self._read(self._err)

    @staticmethod
    def _read(path: Path) -> str:
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def until(true: Callable[[], object], what: str, seconds: float = 300) -> None:
    """Wait for something that will happen, however slow the machine; fails when it has not after so many seconds."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.1)


def run(
    module: str, *arguments: str, cwd: Path | None = None, env: Mapping[str, str] | None = None, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """`python -m module arguments`, to its end."""
    command = Command(module, *arguments, cwd=cwd, env=env)
    out, err = command.communicate(timeout)
    assert command.returncode is not None
    return subprocess.CompletedProcess(command.args, command.returncode, out, err)


def _serve() -> None:
    """Have a fork of this process be the server of its child processes, which otherwise were a new interpreter."""
    with socket.socket(socket.AF_UNIX) as listener:
        address = multiprocessing.connection.arbitrary_address("AF_UNIX")
        listener.bind(address)
        listener.listen()
        ended, alive = os.pipe()
        resource_tracker.ensure_running()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        server = os.fork()
        if not server:
            try:
                os.close(alive)
                importlib.reload(warm)  # which finds that it is in a server
                forkserver.main(listener.detach(), ended, [])
            finally:
                os._exit(0)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(ended)
    _known._forkserver_address, _known._forkserver_alive_fd, _known._forkserver_pid = address, alive, server


def _run(args: Sequence[str], wanted: tuple[str, dict[str, str], bool], files: tuple[str, str]) -> None:
    cwd, env, session = wanted
    if session:
        os.setsid()
    for number, path in zip((1, 2), files, strict=True):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, number)
        os.close(opened)
    for name in ("stdout", "stderr"):  # those of the server may take a terminal for a file in which one can seek
        old = getattr(sys, name)
        buffering = 1 if name == "stderr" or os.isatty(old.fileno()) else -1
        setattr(sys, name, open(old.fileno(), "w", buffering, old.encoding, old.errors, closefd=False))  # noqa: SIM115
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.path[:0] = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path and path not in sys.path]
    sys.argv = list(args)
    if sys.version_info < (3, 14):  # where the two have a secret of their own
        _serve()
    code: object = 1
    try:
        importlib.import_module(args[0]).main()
        code = 0
    except SystemExit as left:
        code = left.code or 0
    except BaseException:
        traceback.print_exc()
    # Ends as an interpreter does, threads before processes; multiprocessing's own end of a process has it the other way
    # round, and waits for ever for the workers of an executor.
    if not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
