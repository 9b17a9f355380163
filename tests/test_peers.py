"""Processes started by SLURM or torchrun notice a failed or killed one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
import time
from multiprocessing.connection import Client

import commands
import pytest
import torch

from slnlab.errors import SlnlabError
from slnlab.processes import peers
from slnlab.processes.peers import DONE, Peers

Group = tuple[list[Peers], list[str], threading.Event]


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> Group:
    """Three processes of a run, played by this one; what was written down, and whether a process was ended."""
    monkeypatch.setattr(peers, "GRACE", 0.3)
    written: list[str] = []
    ended = threading.Event()
    monkeypatch.setattr(peers, "_exit", ended.set)
    members = [Peers(rank, 3, written.append) for rank in range(3)]
    port, key = members[0].listen()
    for member in members[1:]:
        member.connect("127.0.0.1", port, key)
    commands.until(lambda: len(members[0]._connections) == 2, "both are connected")
    return members, written, ended


@pytest.mark.parametrize("failing", [0, 2])
def test_all_processes_learn_of_a_failure_and_stragglers_are_ended(
    failing: int, group: Group, caplog: pytest.LogCaptureFixture
) -> None:
    members, written, ended = group
    others = [member for member in members if member.rank != failing]
    members[failing].left.set()
    others[1].left.set()  # it has left by itself, after an error of its transport
    members[failing].announce("failed: ValueError: no")
    for member in others:
        assert member.heard.wait(60)
        assert member.reason == f"process {failing} of 3, counted from 0, failed: ValueError: no"
    assert ended.wait(5)
    assert (
        f"process {failing} of 3, counted from 0, failed: ValueError: no; this process waits for it in vain"
        in caplog.text
    )
    # Only the first process writes into the run's directory.
    assert written == ([members[failing].reason] if others[0].rank else [others[0].reason])[: int(others[0].rank == 0)]


def test_no_process_is_ended_after_a_normal_exit(group: Group) -> None:
    members, written, ended = group
    for member in members:
        member.announce(DONE)
        member.left.set()
    assert not any(member.heard.wait(0.3) for member in members)
    assert not ended.is_set()
    assert not written


def test_a_killed_process_is_noticed_by_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "_exit", lambda: None)
    first = Peers(0, 2, lambda _: None)
    port, key = first.listen()
    child = multiprocessing.get_context("fork").Process(target=_connect_and_wait, args=(port, key))
    child.start()
    commands.until(lambda: first._connections, "it is connected")
    assert not first.heard.is_set()
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    assert first.heard.wait(60)
    assert first.reason == "process 1 of 2, counted from 0, has died"
    first.left.set()
    child.join()


def _connect_and_wait(port: int, key: bytes) -> None:
    Peers(1, 2, lambda _: None).connect("127.0.0.1", port, key)
    time.sleep(600)


def test_a_foreign_connection_is_not_counted_as_a_process() -> None:
    first, second = (Peers(rank, 2, lambda _: None) for rank in range(2))
    port, key = first.listen()
    socket.create_connection(("127.0.0.1", port)).close()
    with pytest.raises((OSError, EOFError, multiprocessing.AuthenticationError)):
        Client(("127.0.0.1", port), authkey=b"another").recv_bytes()
    second.connect("127.0.0.1", port, key)
    second.announce("failed: at the end")
    second.left.set()
    assert first.heard.wait(60)
    assert first.reason.endswith("failed: at the end")
    first.left.set()


def test_silent_foreign_connections_delay_nobody() -> None:
    first, second = (Peers(rank, 2, lambda _: None) for rank in range(2))
    port, key = first.listen()
    with socket.create_connection(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port)):
        second.connect("127.0.0.1", port, key)
        second.left.set()
        second.announce("failed: at the end")
        assert first.heard.wait(60)
    first.left.set()


def test_a_failure_reaches_processes_that_connect_later() -> None:
    members = [Peers(rank, 3, lambda _: None) for rank in range(3)]
    port, key = members[0].listen()
    members[1].connect("127.0.0.1", port, key)
    for member in members:
        member.left.set()
    members[1].announce("failed: KeyError: 'x'")
    assert members[0].heard.wait(60)
    members[2].connect("127.0.0.1", port, key)
    assert members[2].heard.wait(60)
    assert members[0].reason == members[2].reason == "process 1 of 3, counted from 0, failed: KeyError: 'x'"


def test_waiting_for_the_first_process_is_limited(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(peers, "WITHIN", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        Peers(1, 2, lambda _: None).connect("127.0.0.1", port, b"key")
    assert f"127.0.0.1:{port} cannot be reached (no answer within 0 s)" in caplog.text


def test_a_missing_port_is_an_error_in_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket, "create_server", refuse)
    with pytest.raises(SlnlabError, match=r"cannot listen to the others of its run: .*Too many open files"):
        Peers(0, 2, lambda _: None).listen()


def test_a_lost_connection_is_explained_by_the_failure_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = RuntimeError("[/src/third_party/gloo/gloo/transport/tcp/pair.cc:561] Connection closed by peer")
    peers.blame(lost)  # a run of one process
    first = Peers(0, 2, lambda _: None)
    first.reason = "process 1 of 2, counted from 0, failed: KeyError: 'x'"
    first.heard.set()
    monkeypatch.setattr(peers, "_peers", first)
    with pytest.raises(SlnlabError, match=r"process 1 of 2.*KeyError"):
        peers.blame(lost)
    with pytest.raises(SlnlabError, match=r"process 1 of 2.*KeyError"):
        peers.blame(torch.distributed.DistBackendError("NCCL error"))
    peers.blame(ValueError("a bug of this process's own"))
