"""Worker processes that decode ahead: their batches, and messages when they die, hang or are too many."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import commands
import numpy as np
import pytest
import torch
from torch import Tensor

from slnlab.data import ahead as ahead_module
from slnlab.data.ahead import Ahead
from slnlab.errors import DataError, SlnlabError

BATCHES = [np.arange(first, last) for first, last in ((0, 3), (3, 6), (6, 6), (6, 10), (10, 11))]


class Squares:
    """Row r is an image of r; at `row` something happens first."""

    size = 64

    def __init__(self, row: int = -1, happens: Callable[[], Any] = lambda: None) -> None:
        self.row, self.happens = row, happens

    def __call__(self, row: int) -> Tensor:
        if row == self.row:
            self.happens()
        return torch.full((3, 64, 64), row, dtype=torch.uint8)

    def name(self, row: int) -> str:
        return f"image {row}"


def kill_oneself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuse() -> None:
    raise DataError("image 7: is no image")


def rows(batch: Tensor) -> list[int]:
    assert (batch == batch[:, :1, :1, :1]).all()
    return batch[:, 0, 0, 0].tolist()


def taken(ahead: Ahead) -> list[list[int]]:
    return [rows(next(ahead)) for _ in ahead.batches]


@pytest.mark.parametrize("workers", [1, 2, 9])
def test_batches_come_in_order_and_no_process_is_left(workers: int) -> None:
    ahead = Ahead(Squares(), BATCHES, workers)
    assert len(ahead.workers) == min(workers, len(BATCHES))
    assert taken(ahead) == [batch.tolist() for batch in BATCHES]
    assert not multiprocessing.active_children()


def test_closing_the_iterator_early_leaves_no_process() -> None:
    ahead = Ahead(Squares(), BATCHES * 50, 2)
    next(ahead)
    assert len(multiprocessing.active_children()) == 2
    del ahead
    assert not multiprocessing.active_children()


def test_batches_need_no_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/shm may be full, or have room for less than a batch."""

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("multiprocessing.synchronize.SemLock", full)
    for way in ("_share_fd_cpu_", "_share_filename_cpu_", "_new_using_fd_cpu", "_new_using_filename_cpu"):
        monkeypatch.setattr(torch.UntypedStorage, way, full)
    assert taken(Ahead(Squares(), BATCHES, 2)) == [batch.tolist() for batch in BATCHES]


@pytest.mark.parametrize(
    ("happens", "kind", "message"),
    [
        (refuse, DataError, r"^image 7: is no image$"),
        (kill_oneself, SlnlabError, r"^image 7: .* has died \(SIGKILL, .*memory is short; fewer data.workers"),
        (lambda: os._exit(3), SlnlabError, r"^image 7: the process that decoded it has died \(exit code 3"),
        (lambda: time.sleep(60), DataError, r"^image 7: is not read after 0.5 s; .*data.read_timeout=SECONDS"),
        (lambda: 1 / 0, RuntimeError, r"Traceback[\s\S]*ZeroDivisionError"),
    ],
)
def test_a_workers_failure_is_reported_at_its_batch(
    happens: Callable[[], Any], kind: type[Exception], message: str
) -> None:
    begun = time.monotonic()
    ahead = Ahead(Squares(7, happens), BATCHES, 2, timeout=0.5)
    assert [rows(next(ahead)) for _ in range(3)] == [[0, 1, 2], [3, 4, 5], []]
    with pytest.raises(kind, match=message):
        next(ahead)
    assert not multiprocessing.active_children()
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize(("batch", "name"), [([4, 5], "image 4"), ([], "an empty batch")])
def test_a_worker_dying_at_its_start_is_reported_at_its_first_image(
    batch: list[int], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead_module, "_leave_signals", kill_oneself)
    with pytest.raises(SlnlabError, match=f"^{name}: the process that decoded it has died"):
        next(Ahead(Squares(), [np.array(batch, np.int64)], 1))


def test_the_time_limit_is_per_image_not_per_batch() -> None:
    """The time-out is one image's."""
    ahead = Ahead(Squares(3, lambda: time.sleep(0.3)), [np.array([3] * 4)], 1, timeout=1)
    assert rows(next(ahead)) == [3] * 4


@pytest.mark.parametrize(("files", "workers"), [(70, 2), (64, 0)])
def test_the_limit_of_open_files_allows_fewer_workers(
    files: int, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) + files, hard))
    try:
        ahead = Ahead(Squares(), BATCHES, 5)
        free = len(os.listdir("/dev/fd")) + 50
        assert free <= resource.getrlimit(resource.RLIMIT_NOFILE)[0], "what else the run opens has room"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(ahead.workers) == workers
    assert f"data.workers: {workers} instead of 5 processes decode images: too many open files" in caplog.text
    if workers:
        assert taken(ahead) == [batch.tolist() for batch in BATCHES]


def test_a_system_without_such_pipes_decodes_in_the_process(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delattr(os, "readv")
    for _ in range(2):
        assert not Ahead(Squares(), BATCHES, 4).workers
    assert caplog.text.count("data.workers: 0 instead of 4 processes decode images: this system lacks the pipes") == 1


def test_without_a_limit_of_open_files_all_workers_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    assert len(Ahead(Squares(), BATCHES, 5).workers) == 5


def test_the_limit_of_processes_allows_fewer_workers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start, started = ForkProcess.start, list[ForkProcess]()

    def limited(process: ForkProcess) -> None:
        started.append(process)
        if len(started) == 4:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        start(process)

    monkeypatch.setattr(ForkProcess, "start", limited)
    ahead = Ahead(Squares(), BATCHES, 5)
    assert len(ahead.workers) == 2
    assert taken(ahead) == [batch.tolist() for batch in BATCHES]
    assert "2 instead of 5 processes decode images: Resource temporarily unavailable" in caplog.text


def test_workers_end_when_their_parent_is_killed() -> None:
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)

    def work() -> None:
        ahead = Ahead(Squares(), BATCHES * 20, 2)
        there.send([worker.process.pid for worker in ahead.workers])
        time.sleep(60)

    process = context.Process(target=work)
    process.start()
    pids = here.recv()
    process.kill()
    process.join()
    commands.until(lambda: not any(_runs(pid) for pid in pids), "its workers have ended", seconds=60)


def _runs(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
