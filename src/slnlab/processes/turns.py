"""Jobs that take turns: each has a thread of its own, and one thread runs at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any


class Turns:
    """Runs jobs in turn, up to the places where they wait for each other.

    The order of the turns is always the same. So the jobs need no locks, and a repetition gives the same results.

    Args:
        meet: called in the thread of `run` when every unfinished job waits, with the values that they wait with, in the
            order of the jobs. Then the jobs continue in turn. An exception is raised in each of them.
    """

    def __init__(self, meet: Callable[[list[Any]], None]) -> None:
        self._meet = meet
        self._of_thread: dict[int, _Job] = {}

    def run(self, jobs: Sequence[Callable[[], Any]]) -> list[Any]:
        """Do all jobs, which may call `wait`. Returns what each returned, or the exception that ended it."""
        threads = [_Job(job) for job in jobs]
        for thread in threads:
            thread.start()
            assert thread.ident is not None
            self._of_thread[thread.ident] = thread
            thread.go_on()
        while waiting := [thread for thread in threads if thread.waits]:
            error: Exception | None = None
            try:
                self._meet([thread.value for thread in waiting])
            except Exception as caught:
                error = caught
            for thread in waiting:
                thread.error = error
                thread.go_on()
        return [thread.result for thread in threads]

    def wait(self, value: Any) -> None:
        """Wait until all unfinished jobs wait, and `meet` has been called. A job calls this in its thread."""
        self._of_thread[threading.get_ident()].wait(value)


class _Job(threading.Thread):
    """The thread of a job, and the value that it waits with."""

    def __init__(self, job: Callable[[], Any]) -> None:
        # Python's end does not wait for a daemon: an impatient user's second signal ends the process at once.
        super().__init__(daemon=True)
        self.job = job
        self.waits = False
        self.value: Any = None
        self.result: Any = None
        self.error: Exception | None = None
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)

    def go_on(self) -> None:
        """Let the job run until it waits or ends."""
        self.waits = False
        self._go.release()
        self._back.acquire()

    def wait(self, value: Any) -> None:
        """Let the others run."""
        self.value, self.waits = value, True
        self._back.release()
        self._go.acquire()
        if self.error is not None:
            raise self.error

    def run(self) -> None:
        self._go.acquire()
        try:
            self.result = self.job()
        except BaseException as error:
            self.result = error
        finally:
            self._back.release()
