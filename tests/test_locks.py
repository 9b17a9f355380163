"""One process at a time in a folder, with flock and without."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from slnlab.errors import Busy, DataError
from slnlab.processes import stopping
from slnlab.record.run_directory import RunDirectory
from slnlab.record.sweep_plan import run_statuses
from slnlab.storage import locks
from slnlab.storage.locks import FolderLock, is_held


def without_flock(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A file system whose answer to flock is this error."""

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.fixture
def no_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    without_flock(monkeypatch, errno.ENOSYS)


def left_behind(folder: Path, *, pid: int | None = None, host: str | None = None, age: float = 0.0) -> Path:
    """The lease of a process that did not release it, of this machine unless `host` says otherwise."""
    lease = folder / ".lease"
    lease.unlink(missing_ok=True)
    lock = FolderLock(folder, "busy:")
    lock.acquire(0)
    text = lease.read_text()
    lock.release()
    for name, value in (("pid", pid), ("host", host)):
        text = text if value is None else re.sub(rf"^{name}=.*$", f"{name}={value}", text, flags=re.MULTILINE)
    lease.write_text(text)
    os.utime(lease, (time.time() - age, time.time() - age))
    return lease


def dead_process() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


@pytest.mark.parametrize("number", [None, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_lock_has_one_holder_at_a_time(number: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if number is not None:
        without_flock(monkeypatch, number)
    first, second = FolderLock(tmp_path, "busy:"), FolderLock(tmp_path, "busy:")
    assert not is_held(tmp_path)
    first.acquire(0)
    assert is_held(tmp_path)
    with pytest.raises(Busy, match=f"busy: {tmp_path}" if number is None else rf"process {os.getpid()} on .* 0 s ago"):
        second.acquire(0)
    first.release()
    assert not is_held(tmp_path)
    second.acquire(0)
    assert second.held
    second.release()


@pytest.mark.usefixtures("no_flock")
def test_without_flock_the_lock_of_a_killed_run_is_taken_at_once(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    run.config.write_text("trainer: {max_epochs: 10}\n")
    run.identity.write_text("{}")
    left_behind(run.path)  # of this process, which lives
    assert [found.state for found in run_statuses(tmp_path)] == ["running"]
    left_behind(run.path, pid=dead_process())
    assert [found.state for found in run_statuses(tmp_path)] == ["stopped"]
    left_behind(run.path, pid=dead_process())
    with run.locked():
        assert [found.state for found in run_statuses(tmp_path)] == ["running"]


@pytest.mark.usefixtures("no_flock")
def test_a_renewed_lease_of_another_machine_is_respected(tmp_path: Path) -> None:
    left_behind(tmp_path, pid=4711, host="node0123", age=40)
    assert is_held(tmp_path)
    with pytest.raises(Busy, match=r"process 4711 on node0123 renewed its lease 4\d s ago.* takes over after 120 s"):
        FolderLock(tmp_path, "busy:").acquire(0)
    left_behind(tmp_path, host="node0123", age=-3600)  # a clock that is wrong
    assert is_held(tmp_path)


@pytest.mark.usefixtures("no_flock")
def test_the_lease_of_a_lost_machine_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(locks, "EXPIRES", 1.0)
    left_behind(tmp_path, pid=4711, host="node0123", age=3000)
    assert not is_held(tmp_path)
    lock = FolderLock(tmp_path, "busy:")
    lock.acquire(0)
    assert lock.held
    assert "process 4711 on node0123 has not renewed its lease for 3000 s" in caplog.text
    lock.release()


@pytest.mark.usefixtures("no_flock")
def test_a_late_renewal_keeps_the_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that was suspended, say."""
    monkeypatch.setattr(locks, "EXPIRES", 2.0)
    lease = left_behind(tmp_path, host="node0123", age=3000)
    renewal = threading.Timer(0.5, lambda: os.utime(lease))
    renewal.start()
    with pytest.raises(Busy, match="on node0123 renewed its lease"):
        FolderLock(tmp_path, "busy:").acquire(0)
    renewal.join()


@pytest.mark.usefixtures("no_flock")
def test_a_process_that_lost_its_lease_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "EXPIRES", 0.3)
    lock = FolderLock(tmp_path, "busy:")

    def working() -> None:
        with stopping.obeying_signals():
            lock.acquire(0)
            left_behind(tmp_path)
            for _ in range(100):
                time.sleep(0.05)
                stopping.stop_if_requested()

    with pytest.raises(stopping.Stopped) as stopped:
        working()
    assert stopped.value.signal == signal.SIGTERM
    lock.release()
    assert (tmp_path / ".lease").exists(), "of the other process"


def test_an_unresponsive_lock_service_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_flock(monkeypatch, errno.ENOLCK)
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    run.config.write_text("trainer: {max_epochs: 10}\n")
    run.identity.write_text("{}")
    with (
        pytest.raises(DataError, match=r"lock service .* \(No locks available, ENOLCK\).*rpc.statd.*runs_dir"),
        run.locked(),
    ):
        pass
    with pytest.raises(DataError, match=r"lock service .*ENOLCK"):
        run_statuses(tmp_path)


def test_a_zombie_process_holds_no_lock(tmp_path: Path) -> None:
    """A container without an init leaves such zombie processes."""
    zombie = subprocess.Popen(["true"])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    left_behind(tmp_path, pid=zombie.pid)
    lease = tmp_path / ".lease"
    lease.write_text(re.sub(r"^start=.*\n", "", lease.read_text(), flags=re.MULTILINE))
    assert not is_held(tmp_path)
    lock = FolderLock(tmp_path, "busy:")
    lock.acquire(0)
    assert lock.held
    lock.release()
    zombie.wait()


@pytest.mark.parametrize("holder_has_flock", [True, False])
def test_processes_with_and_without_flock_exclude_each_other(
    holder_has_flock: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = FolderLock(tmp_path, "busy:"), FolderLock(tmp_path, "busy:")
    for lock in (first, second):
        with monkeypatch.context() as patch:
            if holder_has_flock != (lock is first):
                without_flock(patch, errno.ENOSYS)
            if lock is first:
                lock.acquire(0)
            else:
                assert is_held(tmp_path)
                with pytest.raises(Busy, match=rf"process {os.getpid()} on .* 0 s ago"):
                    lock.acquire(0)
    first.release()
    assert not is_held(tmp_path)
    second.acquire(0)  # and so the refused one has kept nothing
    second.release()


@pytest.mark.usefixtures("no_flock")
def test_a_lost_lease_does_not_stop_later_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "EXPIRES", 0.3)
    told: list[signal.Signals | None] = []

    def work() -> None:
        lock = FolderLock(tmp_path, "busy:")
        with stopping.obeying_signals():
            lock.acquire(0)
            left_behind(tmp_path)
            deadline = time.monotonic() + 5
            while stopping.received_signal() is None and time.monotonic() < deadline:
                time.sleep(0.05)
            told.append(stopping.received_signal())
            lock.release()
        told.append(stopping.received_signal())

    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        assert stopping.received_signal() is None, "the run of another thread goes on"
        thread.join(0.05)
    assert told == [signal.SIGTERM, None]
