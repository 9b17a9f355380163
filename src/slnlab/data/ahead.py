"""Reading ahead: worker processes decode batches of images, and send each through a pipe.

torch's DataLoader passes tensors through /dev/shm. If that is small (64 MB in Docker), it waits for ever. A killed
worker raises an exception in the middle of a training step. A pipe needs no shared memory, ends with its worker, and
tells which image the worker decodes.
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
"""Marks of a worker: `_NEXT` before each image and after the last of a batch, `_FAILED` before its final message."""

_FILES_PER_WORKER = 3
"""Open files in this process for each worker: the pipe, and two of multiprocessing."""

_FILES_LEFT = 64
"""Open files kept free for the rest of the run."""


class Decode(Protocol):
    """Row → its image, uint8 (3, size, size). An unreadable image raises DataError."""

    size: int

    def __call__(self, row: int) -> Tensor: ...

    def name(self, row: int) -> str:
        """Return the path of the image, for messages."""


class _Worker(NamedTuple):
    process: BaseProcess
    pipe: Connection


class Ahead:
    """Iterator over decoded batches (B, 3, size, size) uint8, in order.

    Each of W workers decodes every W-th batch and holds it until the batch is due. Pixels do not depend on W. A system
    with too few processes or open files gets fewer workers, perhaps none.

    Args:
        decode: row → image.
        batches: rows (B,) of each batch; B may be 0.
        workers: W ≥ 1.
        timeout: longest time for one image, in seconds; None: no limit.
        pinned: put batches into page-locked memory.
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
            buffer = bytearray(len(rows) + 1 - begun)
            size = self._read(worker, memoryview(buffer), name)
            marks, failed, message = bytes(buffer[:size]).partition(_FAILED)
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
        """Wait for the worker, and read into `into`; return the number of bytes, at least 1."""
        if not worker.pipe.poll(self.timeout):
            raise DataError(
                f"{name}: is not read after {self.timeout:g} s; does the file system hang? data.read_timeout=SECONDS "
                "waits longer, null for ever. The same command resumes the run"
            )
        size = os.readv(worker.pipe.fileno(), [into])
        if not size:
            raise _death(worker, name)
        return size

    def _failure(self, worker: _Worker, message: bytes) -> Exception:
        while rest := os.read(worker.pipe.fileno(), 1 << 16):
            message += rest
        try:
            is_data_error, text = pickle.loads(message)
        except (pickle.UnpicklingError, EOFError):  # the worker was killed while it wrote the message
            return _death(worker, "an image")
        return DataError(text) if is_data_error else RuntimeError(f"in a process that decodes images:\n{text}")


def _death(worker: _Worker, name: str) -> SlnlabError:
    worker.process.join(5)
    code = worker.process.exitcode
    how = f"exit code {code}" if code is None or code >= 0 else signal.Signals(-code).name
    if how == "SIGKILL":
        how += ", as the system does when memory is short; fewer data.workers need less"
    return SlnlabError(f"{name}: the process that decoded it has died ({how}). The same command resumes the run")


def _start(decode: Decode, batches: Sequence[npt.NDArray[np.int64]], wanted: int) -> list[_Worker]:
    count, reason = min(wanted, _room()), "too many open files (ulimit -n)"
    if not hasattr(os, "readv"):
        count, reason = 0, "this system lacks the pipes for it"  # Windows
    workers: list[_Worker] = []
    while count and not workers:
        try:
            for number in range(count):
                workers.append(_begin(decode, batches[number::count]))
        except OSError as error:  # too many processes, or too little memory
            _end(workers)
            workers.clear()
            count, reason = count // 2, error.strerror or str(error)
    if count < wanted:
        _warn(f"data.workers: {count} instead of {wanted} processes decode images: {reason}")
    return workers


@cache
def _warn(message: str) -> None:
    """Log a warning once, not at every pass over the images."""
    log.warning("%s", message)


def _begin(decode: Decode, batches: Sequence[npt.NDArray[np.int64]]) -> _Worker:
    # Workers are forked on Linux, even by a spawned process: a spawned worker would import torch for seconds, and every
    # pass starts new workers.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    receiver, sender = context.Pipe(duplex=False)
    with suppress(ImportError, AttributeError, OSError):  # a larger buffer, if the system allows it
        import fcntl

        fcntl.fcntl(sender.fileno(), fcntl.F_SETPIPE_SZ, 1 << 20)
    process = context.Process(target=_work, args=(receiver, sender, decode, batches), daemon=True)
    process.start()
    sender.close()  # only the worker holds it now, so the pipe ends with the worker
    return _Worker(process, receiver)


def _room() -> int:
    """Return the number of workers that the limit of open files allows."""
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
    """Decode and send batches, in a worker. It ends when its pipe has no reader."""
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
    except DataError as error:
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
    """Ignore Ctrl-C, which the main process handles, and let other signals end this worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
