"""Batches of images that worker processes decode ahead, each worker with a pipe of its own.

torch's DataLoader passes tensors through /dev/shm. Where that is small (64 MB in Docker) it waits for ever, and of a
worker that was killed it speaks through an exception in the middle of a training step. A pipe needs no shared memory,
ends when its worker does, and says which image the worker is at.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import sys
import traceback
import weakref
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slnlab.errors import DataError, SlnlabError

log = logging.getLogger(__name__)

_NEXT, _FAILED = b".", b"!"
"""What a worker writes: before each image and once more after a batch's last; before a message, with which it ends."""

_FILES_PER_WORKER = 3
"""Open files in this process: the pipe, and two of multiprocessing's."""

_FILES_LEFT = 64
"""Open files that a run wants for itself."""


class Decode(Protocol):
    """Row → its image, uint8 (3, size, size). Raises DataError for one that cannot be read."""

    size: int

    def __call__(self, row: int) -> Tensor: ...

    def name(self, row: int) -> str:
        """The image's path, for messages."""


class _Worker(NamedTuple):
    process: BaseProcess
    pipe: Connection


class Ahead:
    """Iterator over decoded batches (B, 3, size, size) uint8, in order.

    Of W workers each decodes every W-th batch and holds it until it is asked for. Pixels do not depend on W, so where
    the system allows fewer processes or open files, there are fewer, perhaps none.

    Args:
        decode: row → image.
        batches: rows (B,) of each batch; B may be 0.
        workers: W ≥ 1.
        timeout: seconds that one image may take; None: for ever.
        pinned: batches lie in page-locked memory.
    """

    def __init__(
        self,
        decode: Decode,
        batches: Sequence[npt.NDArray[np.int64]],
        workers: int,
        timeout: float | None = None,
        pinned: bool = False,
    ) -> None:
        self.decode, self.batches, self.timeout, self.pinned = decode, batches, timeout, pinned
        self.workers = _start(decode, batches, min(workers, len(batches)))
        self.close = weakref.finalize(self, _end, self.workers)
        self._number = 0

    def __next__(self) -> Tensor:
        """
        Raises:
            DataError: an image cannot be read, or takes too long.
            SlnlabError: a worker has died.
        """
        rows, worker = self.batches[self._number], self.workers[self._number % len(self.workers)]
        try:
            images = self._receive(worker, rows)
        except BaseException:
            self.close()
            raise
        self._number += 1
        if self._number == len(self.batches):
            self.close()
        return images

    def _receive(self, worker: _Worker, rows: npt.NDArray[np.int64]) -> Tensor:
        images = torch.empty(
            len(rows), 3, self.decode.size, self.decode.size, dtype=torch.uint8, pin_memory=self.pinned
        )
        name, begun = self.decode.name(int(rows[0])) if len(rows) else "an empty batch", 0
        while begun <= len(rows):
            found = bytearray(len(rows) + 1 - begun)
            size = self._read(worker, memoryview(found), name)
            marks, failed, message = bytes(found[:size]).partition(_FAILED)
            begun += len(marks)
            if failed:
                raise self._failure(worker, message)
            if 0 < begun <= len(rows):
                name = self.decode.name(int(rows[begun - 1]))
        rest = images.view(-1).numpy().data
        while len(rest):
            rest = rest[self._read(worker, rest, name) :]
        return images

    def _read(self, worker: _Worker, into: memoryview, name: str) -> int:
        """Wait for the worker to write, and read at most so many bytes; at least 1."""
        if not worker.pipe.poll(self.timeout):
            raise DataError(
                f"{name}: is not read after {self.timeout:g} s; does the file system hang? data.read_timeout=SECONDS "
                "waits longer, null for ever. The same command goes on"
            )
        size = os.readv(worker.pipe.fileno(), [into])
        if not size:
            raise _death(worker, name)
        return size

    def _failure(self, worker: _Worker, message: bytes) -> Exception:
        while found := os.read(worker.pipe.fileno(), 1 << 16):
            message += found
        try:
            of_users, text = pickle.loads(message)
        except (pickle.UnpicklingError, EOFError):  # it was killed at this of all moments
            return _death(worker, "an image")
        return DataError(text) if of_users else RuntimeError(f"in a process that decodes images:\n{text}")


def _death(worker: _Worker, name: str) -> SlnlabError:
    worker.process.join(5)
    code = worker.process.exitcode
    how = f"exit code {code}" if code is None or code >= 0 else signal.Signals(-code).name
    if how == "SIGKILL":
        how += ", as the system does when memory is short; fewer data.workers need less"
    return SlnlabError(f"{name}: the process that decoded it has died ({how}). The same command goes on")


def _start(decode: Decode, batches: Sequence[npt.NDArray[np.int64]], wanted: int) -> list[_Worker]:
    count, reason = min(wanted, _room()), "too many open files (ulimit -n)"
    workers: list[_Worker] = []
    while count and not workers:
        try:
            for number in range(count):
                workers.append(_begin(decode, batches[number::count]))
        except OSError as error:  # no more processes, or no memory for one
            _end(workers)
            workers.clear()
            count, reason = count // 2, error.strerror or str(error)
    if count < wanted:
        _warn(f"data.workers: {count} instead of {wanted} processes decode images: {reason}")
    return workers


@cache
def _warn(message: str) -> None:
    """Once, and not at every pass over the images."""
    log.warning("%s", message)


def _begin(decode: Decode, batches: Sequence[npt.NDArray[np.int64]]) -> _Worker:
    # Forked on Linux, also where a process of several was spawned and would spawn in turn: importing torch anew takes
    # seconds, and every pass has new workers.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    receiver, sender = context.Pipe(duplex=False)
    with suppress(ImportError, AttributeError, OSError):  # fewer turns of both processes, where the system allows it
        import fcntl

        fcntl.fcntl(sender.fileno(), fcntl.F_SETPIPE_SZ, 1 << 20)
    process = context.Process(target=_work, args=(receiver, sender, decode, batches), daemon=True)
    process.start()
    sender.close()  # here; so the pipe ends when the worker does
    return _Worker(process, receiver)


def _room() -> int:
    """How many workers the limit of open files leaves room for."""
    try:
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        is_open = len(os.listdir("/dev/fd"))
    except (ImportError, OSError):
        return sys.maxsize
    if limit == resource.RLIM_INFINITY:
        return sys.maxsize
    return max(0, (limit - is_open - _FILES_LEFT) // _FILES_PER_WORKER)


def _end(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.pipe.close()
        worker.process.terminate()
    for worker in workers:
        worker.process.join(5)
        if worker.process.is_alive():
            worker.process.kill()


def _work(other_end: Connection, pipe: Connection, decode: Decode, batches: Sequence[npt.NDArray[np.int64]]) -> None:
    """What a worker does. It ends when nobody reads its pipe any more."""
    other_end.close()
    _leave_signals()
    try:
        for rows in batches:
            images = np.empty((len(rows), 3, decode.size, decode.size), np.uint8)
            for image, row in zip(images, rows.tolist(), strict=True):
                _write(pipe, _NEXT)
                image[:] = decode(row).numpy()
            _write(pipe, _NEXT)
            _write(pipe, images.reshape(-1).data)
    except DataError as error:  # a message, as a traceback would be for a text
        _write(pipe, _FAILED + pickle.dumps((True, str(error))))
    except BrokenPipeError:
        pass
    except Exception:
        _write(pipe, _FAILED + pickle.dumps((False, traceback.format_exc())))


def _write(pipe: Connection, data: bytes | memoryview) -> None:
    rest = memoryview(data)
    while len(rest):
        rest = rest[os.write(pipe.fileno(), rest) :]


def _leave_signals() -> None:
    """Ctrl-C is the main process's to answer; it ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
