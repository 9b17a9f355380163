"""Peers: the processes of a run that SLURM or torchrun started. If one fails or dies, the others end too.

Without this, they would wait ten minutes or more in a collective of NCCL. Each process holds a connection to the first
one, and the first one passes on failures. The operating system closes the connection of a dead process at once, and
that of a lost machine within half a minute, even while Python is blocked.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, answer_challenge, deliver_challenge

import torch.distributed as dist

from slnlab.errors import SlnlabError
from slnlab.processes.distributed import from_rank_zero, rank, world_size

log = logging.getLogger(__name__)

GRACE = 30.0
"""Seconds for a process to end by itself after another one failed; then it is ended."""

WITHIN = 30.0
"""Seconds to wait for the connection to the first process. The connection may still come later."""

DONE = "done"
"""The message of a process that leaves without a failure."""

HAS_DIED = "has died"

_peers: Peers | None = None  # of this process's run


@contextmanager
def watching(host: str, ended: Callable[[str], None]) -> Iterator[threading.Event]:
    """Inside the block a process that fails or dies ends the others. Every process of the group must enter it.

    Args:
        host: name of the first process's machine.
        ended: called with the reason before the first process is ended.

    Yields:
        An event. Set it when this process has left the group, within `GRACE` seconds after a failure.
    """
    global _peers
    _peers = Peers(rank(), world_size(), ended)
    port, key = from_rank_zero(_peers.listen)
    if rank() > 0:
        _peers.connect(host, port, key)
    try:
        yield _peers.left
    except SystemExit as stopped:
        _peers.announce(DONE if getattr(stopped, "between_steps", False) else f"was stopped (exit code {stopped.code})")
        raise
    except BaseException as error:
        _peers.announce(f"failed: {type(error).__name__}: {error}")
        raise
    else:
        _peers.announce(DONE)
    finally:
        _peers = None


def blame(error: Exception) -> None:
    """Raise the reason behind an error that is only a lost connection to another process.

    Raises:
        SlnlabError: another process has failed or died.
    """
    lost = isinstance(error, dist.DistError) or "/gloo/" in str(error)
    if lost and _peers is not None and _peers.heard.wait(2):  # the reason may arrive a moment later
        raise SlnlabError(_peers.reason) from error


class Peers:
    """The connections of this process to the others of its run; see `watching`."""

    def __init__(self, rank: int, count: int, ended: Callable[[str], None]) -> None:
        self.rank, self.count, self.ended = rank, count, ended
        self.left, self.heard = threading.Event(), threading.Event()
        self.reason = ""
        self._connections: dict[Connection, int] = {}
        self._announced = ""

    def listen(self) -> tuple[int, bytes]:
        """Accept the connections of the others, in the first process.

        Returns:
            The port, and the key that the others must know.

        Raises:
            SlnlabError: this machine does not allow it.
        """
        key = secrets.token_bytes(16)
        try:
            server = socket.create_server(("", 0), backlog=self.count)
        except OSError as error:
            raise SlnlabError(f"the first process cannot listen to the others of its run: {error}") from error
        port = int(server.getsockname()[1])
        threading.Thread(target=self._serve, args=(server, key), daemon=True).start()
        return port, key

    def connect(self, host: str, port: int, key: bytes) -> None:
        """Connect to the first process, in every other process, and listen to it."""
        lost = f"{host}:{port} cannot be reached (%s); if a process fails alone, others may wait for it"
        tried = threading.Event()

        def meet() -> None:
            try:
                connection = Client((host, port), authkey=key)
                connection.send_bytes(str(self.rank).encode())
                self._keep(connection, 0)
            except (OSError, EOFError, AuthenticationError) as error:
                log.warning(lost, error)
                return
            finally:
                tried.set()
            self._hear(connection)

        threading.Thread(target=meet, daemon=True).start()
        if not tried.wait(WITHIN):
            log.warning(lost, f"no answer within {WITHIN:.0f} s")

    def announce(self, what: str) -> None:
        """Send the others the way in which this process leaves: `DONE`, or a failure."""
        if what != DONE:
            self._expect_end(f"process {self.rank} of {self.count}, counted from 0, {what}")
        elif not self.heard.is_set():
            self._send(DONE)

    def _serve(self, server: socket.socket, key: bytes) -> None:
        server.settimeout(1)  # so that the loop ends when all are connected
        with server:
            while len(self._connections) < self.count - 1:
                with suppress(OSError):
                    connection = Connection(server.accept()[0].detach())
                    threading.Thread(target=self._meet, args=(connection, key), daemon=True).start()

    def _meet(self, connection: Connection, key: bytes) -> None:
        """Listen to a connection that knows the key. Each has its own thread, as a stranger may stay silent."""
        with suppress(OSError, EOFError, ValueError, AuthenticationError):
            deliver_challenge(connection, key)
            answer_challenge(connection, key)
            self._keep(connection, int(connection.recv_bytes()))
            if self._announced:  # before it was connected
                connection.send_bytes(self._announced.encode())
            self._hear(connection)

    def _keep(self, connection: Connection, number: int) -> None:
        with socket.socket(fileno=os.dup(connection.fileno())) as kept:
            kept.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}.items():
                if hasattr(socket, name):
                    kept.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self._connections[connection] = number

    def _hear(self, connection: Connection) -> None:
        """Wait for the only message of the process at the other end: how it leaves."""
        try:
            what = connection.recv_bytes().decode()
        except (OSError, EOFError):
            what = HAS_DIED
        if what != DONE:
            number = self._connections[connection]
            passed_on = what.startswith("process ")
            self._expect_end(what if passed_on else f"process {number} of {self.count}, counted from 0, {what}")

    def _expect_end(self, reason: str) -> None:
        """Pass the reason on. Then end this process if it does not leave in time."""
        if self.heard.is_set():
            return
        self.reason = reason
        self.heard.set()
        self._send(reason)
        threading.Thread(target=self._end_if_it_stays, daemon=True).start()

    def _send(self, text: str) -> None:
        self._announced = text
        for connection in list(self._connections):  # a copy: others may connect meanwhile
            with suppress(OSError):
                connection.send_bytes(text.encode())

    def _end_if_it_stays(self) -> None:
        if not self.left.wait(GRACE):
            log.error("%s; this process waits for it in vain and ends too", self.reason)
            if self.rank == 0:
                self.ended(self.reason)
            _exit()


def _exit() -> None:
    """End this process even while its main thread is blocked."""
    logging.shutdown()
    os._exit(1)
