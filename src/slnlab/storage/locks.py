"""The lock of a folder: one process at a time trains a run or chooses the trials of a study.

The lock has two parts: the operating system's lock (flock) and a lease.

- flock ends with its process. Some mounts lack it (Lustre without flock, some network and FUSE file systems), and on
  some other machines do not see it.
- The lease is a file `.lease`; its holder renews it. Every process takes it, because two machines may mount one folder
  with and without flock. Another process takes the lease over if the holder died on this machine, or did not renew it
  for `EXPIRES` seconds. The clocks of two machines are never compared.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import signal
import socket
import tempfile
import threading
import time
from pathlib import Path

from filelock import FileLock, SoftFileLease, Timeout

from slnlab.errors import Busy, DataError
from slnlab.processes import stopping

log = logging.getLogger(__name__)

EXPIRES = 120.0
"""Seconds after which a lease without renewal is free. The holder renews it three times as often."""

HAS_NO_FLOCK = (errno.ENOSYS, errno.EOPNOTSUPP)


class FolderLock:
    """The lock of one folder, not reentrant.

    Args:
        folder: an existing folder.
        busy: start of the message when another process holds the lock; the folder's name follows.
    """

    def __init__(self, folder: Path, busy: str) -> None:
        self.folder, self.busy = folder, busy
        self._flock = FileLock(folder / ".lock", fallback_to_soft=False)
        self._lease = SoftFileLease(
            folder / ".lease", lease_duration=EXPIRES, poll_interval=0.2, on_compromise=lambda _: self._lost()
        )
        self._past_flock = self._warned = self._is_lost = False
        self._thread = 0

    @property
    def held(self) -> bool:
        """True while this object holds the lock."""
        return bool(self._lease.is_locked)

    def acquire(self, timeout: float) -> None:
        """Take the lock.

        Args:
            timeout: seconds to wait for the holder. A lease without renewal is watched for `EXPIRES` seconds even
                if `timeout` is shorter.

        Raises:
            Busy: another process holds the lock.
            DataError: the folder cannot be locked or written.
            Stopped: a signal arrived during the watch.
        """
        try:
            while not self.held:
                self._try(timeout)
                timeout = 1.0
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        self._lease.release()
        self._flock.release()
        if self._is_lost:
            self._is_lost = False
            stopping.clear_request(self._thread)

    def _try(self, timeout: float) -> None:
        """Take the lock, or return if a lease without renewal needs watching."""
        self._past_flock = False
        try:
            self._acquire(timeout)
        except Timeout:
            if self._flock.is_locked and _is_zombie(self._lease.lock_file):
                Path(self._lease.lock_file).unlink(missing_ok=True)
                return
            age = _age(self._lease.lock_file) if self._past_flock else None
            if age is None:
                raise Busy(f"{self.busy} {self.folder}") from None
            if age <= EXPIRES:
                raise Busy(
                    f"{self.busy} {self.folder} ({self._holder()} renewed its lease {age:.0f} s ago; if it is gone,"
                    f" the same command takes over after {EXPIRES:.0f} s without renewal)"
                ) from None
            self._warn(age)
            stopping.stop_if_requested()
        except OSError as error:
            raise DataError(f"{self.folder}: {_why(error)}") from error

    def _acquire(self, timeout: float) -> None:
        if not self._flock.is_locked:
            try:
                self._flock.acquire(timeout=timeout)
            except OSError as error:
                if isinstance(error, Timeout) or error.errno not in HAS_NO_FLOCK:
                    raise
        self._past_flock = True
        self._thread = threading.get_ident()  # before the lease can be lost
        self._lease.acquire(timeout=timeout)

    def _holder(self) -> str:
        holder = _holder(self._lease.lock_file)
        return f"process {holder[0]} on {holder[1]}" if holder else "another process"

    def _warn(self, age: float) -> None:
        if not self._warned:
            log.warning(
                "%s: %s has not renewed its lease for %.0f s; it is taken over unless it is renewed within %.0f s",
                *(self.folder, self._holder(), age, EXPIRES),
            )
        self._warned = True

    def _lost(self) -> None:
        log.error("%s: another process has taken the lease, which was not renewed in time; stopping", self.folder)
        self._is_lost = True
        stopping.request_stop(signal.SIGTERM, self._thread)


def is_held(folder: Path) -> bool:
    """True if a process holds the lock of a folder. The question delays a process that takes the lock by a moment only.

    Raises:
        DataError: the file system's lock service does not answer.
    """
    # flock first: the lease of a process in another container on this machine looks abandoned.
    return _flock_held(folder / ".lock") or _lease_held(folder / ".lease")


def _flock_held(path: Path) -> bool:
    try:
        import fcntl

        handle = os.open(path, os.O_RDONLY)
    except (OSError, ModuleNotFoundError):  # Windows has other locks
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno == errno.ENOLCK:
            raise DataError(f"{path.parent}: {_why(error)}") from error
        return error.errno in (errno.EAGAIN, errno.EACCES)
    finally:
        os.close(handle)
    return False


def _lease_held(path: Path) -> bool:
    if not path.exists():
        return False
    try:
        with SoftFileLease(path, lease_duration=EXPIRES, timeout=0):  # takes over the lease of a dead process
            return False
    except OSError:  # another process holds it, or the folder is read-only
        age = _age(path)
        return age is not None and age <= EXPIRES and not _is_zombie(path)


def _holder(lease: str | Path) -> tuple[str, str] | None:
    """Process number and machine of a lease's holder, from filelock's file; None if unknown."""
    try:
        text = Path(lease).read_text(encoding="utf-8")
        fields = dict(re.findall(r"^(pid|host)=(.*)$", text, re.MULTILINE))
        return fields["pid"], fields["host"]
    except (OSError, KeyError, ValueError):
        return None


def _is_zombie(lease: str | Path) -> bool:
    """True if the holder died on this machine and its parent has not noticed yet; filelock takes it for alive."""
    holder = _holder(lease)
    if holder is None or holder[1] != socket.gethostname():
        return False
    try:
        return (
            Path(f"/proc/{holder[0]}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2][:2] == " Z"
        )
    except OSError:
        return False


def _age(lease: str | Path) -> float | None:
    """Seconds since the last renewal of a lease, by the clock of the file system; None if there is no lease."""
    try:
        with tempfile.NamedTemporaryFile("w+b", dir=Path(lease).parent, prefix=".now-") as touched:
            now = os.fstat(touched.fileno()).st_mtime
    except OSError:
        now = time.time()
    try:
        return now - os.stat(lease).st_mtime
    except OSError:
        return None


def _why(error: OSError) -> str:
    reason = error.strerror or str(error)
    if error.errno == errno.ENOLCK:
        return (
            f"the lock service of this file system does not answer ({reason}, ENOLCK); start it on this machine and on "
            "the server (NFS 3: rpc.statd, lockd), or choose a runs_dir on another file system"
        )
    return f"cannot be written: {reason}"
