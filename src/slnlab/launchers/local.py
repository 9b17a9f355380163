"""The local launcher: every GPU, or every core, does one run (or a few small ones) at a time.

Each slot has an executor of `concurrent.futures` with one process. The process stays for the next run, which saves
another import of PyTorch. A single pool does not serve: a dead worker breaks a whole pool, joblib's too, but here only
its run fails.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from slnlab.errors import ConfigError
from slnlab.launchers.planned import Outcome, Planned, execute_together
from slnlab.processes import forkserver
from slnlab.processes.cores import cores
from slnlab.processes.stopping import SIGNALS, obeying_signals, received_signal, stopped
from slnlab.schema.kinds import Count

log = logging.getLogger(__name__)

ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""Environment of a process between two runs. Each run sets its own number of threads."""


def launch(
    plan: Sequence[Planned], folder: Path, *, runs_per_device: Count = 1, devices: Count | None = None
) -> list[Outcome]:
    """Do the runs in the order of the plan, several at a time. A run of several processes takes as many slots.

    Args:
        plan: the runs.
        folder: folder of the sweep; not used.
        runs_per_device: runs that share a GPU. Cores are not shared.
        devices: number of GPUs, or of cores if there are no GPUs or no run may use them; None uses all.

    Returns:
        The outcomes in the order of `plan`.

    Raises:
        ConfigError: there are fewer devices than `devices`, or than a run needs.
        Stopped: a signal arrived; the runs have stopped too.
    """
    here = devices_here(devices, plan)
    if here[0] is None:
        runs_per_device = 1
        _advise(plan, len(here))
    found = launch_groups([[planned] for planned in plan], here, runs_per_device)
    return [outcome for outcomes in found for outcome in outcomes]


def _advise(plan: Sequence[Planned], slots: int) -> None:
    """Say how few runs use all cores. They must not by themselves: the number of threads decides a run's bits."""
    processes = sum(planned.config.trainer.devices for planned in plan)
    threads, possible = (max(1, cores() // count) for count in (slots, processes))
    if processes < slots and threads < possible and not any(planned.config.trainer.threads for planned in plan):
        log.info(
            "%d runs with %d thread(s) each on %d cores; hydra.launcher.devices=%d gives each %d",
            *(len(plan), threads, cores(), processes, possible),
        )


def launch_groups(
    plan: Sequence[Sequence[Planned]], devices: list[str | None], runs_per_device: int = 1
) -> list[list[Outcome]]:
    """Do groups of runs in the order of the plan, several groups at a time. The runs of a group train together.

    Args:
        plan: the groups.
        devices: see `devices_here`.
        runs_per_device: see `launch`.

    Returns:
        The outcomes in the order of `plan`.

    Raises:
        ConfigError, Stopped: see `launch`.
    """
    slots = Slots(devices, runs_per_device)
    for planned in (planned for group in plan for planned in group):
        if planned.config.trainer.devices > slots.devices:
            raise ConfigError(
                f"trainer.devices={planned.config.trainer.devices}: launcher=local has {slots.devices} devices here"
            )
    outcomes: list[list[Outcome]] = [[] for _ in plan]
    waiting, running = list(range(len(plan))), dict[Future[list[Outcome]], tuple[int, list[int]]]()
    forward_again = 0.0
    with obeying_signals():
        try:
            while waiting or running:
                while waiting and not received_signal():
                    taken = slots.take(plan[waiting[0]][0].config.trainer.devices)
                    if not taken:
                        break
                    number = waiting.pop(0)
                    first, *others = plan[number]
                    more = f" and {len(others)} more" if others else ""
                    log.info("start %d/%d: %s%s", number + 1, len(plan), first, more)
                    running[slots.submit(taken, plan[number])] = (number, taken)
                if received_signal() and time.monotonic() > forward_again:  # a process between two runs misses a signal
                    forward_again = time.monotonic() + 5
                    slots.signal_all()
                if not running:
                    break
                done, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in done:
                    number, taken = running.pop(future)
                    outcomes[number] = _outcomes(future, plan[number])
                    slots.free(taken, broken=not all(outcome.sound for outcome in outcomes[number]))
        finally:
            if received_signal():  # a second signal may arrive before the first is forwarded
                slots.signal_all()
            slots.close()
        received = received_signal()
        if received is not None:
            raise stopped(received)
    return outcomes


def _outcomes(future: Future[list[Outcome]], group: Sequence[Planned]) -> list[Outcome]:
    try:
        return future.result()
    except BrokenProcessPool:
        message = "its process has died; the same command resumes from its last checkpoint"
        return [Outcome("failed", message, str(planned.directory / "train.log"), sound=False) for planned in group]
    except SystemExit:  # stopped by a signal
        return [Outcome("failed", "stopped") for _ in group]


class Slots:
    """The slots for runs: `each` on every device.

    Args:
        devices: GPU names as in CUDA_VISIBLE_DEVICES, or one None for each core.
        each: number of runs that share a device, at least 1.
    """

    def __init__(self, devices: list[str | None], each: int) -> None:
        self.names = [device for _ in range(each) for device in devices]
        self.devices = len(devices)
        self.busy = [False] * len(self.names)
        self.pools: list[ProcessPoolExecutor | None] = [None] * len(self.names)
        # Threads that wait for the ends of processes, because an executor that Python's end interrupts prints an error.
        self.ending = ThreadPoolExecutor(len(self.names))

    def take(self, count: int) -> list[int]:
        """Free slots on `count` devices; a run of several processes gets whole devices. Empty if too few are free."""
        if count == 1:
            free = [slot for slot, busy in enumerate(self.busy) if not busy]
            return free[:1]
        whole = [d for d in range(self.devices) if not any(self.busy[d :: self.devices])]
        taken = whole[:count] if len(whole) >= count else []
        return [slot for d in taken for slot in range(d, len(self.names), self.devices)]

    def submit(self, taken: list[int], group: Sequence[Planned]) -> Future[list[Outcome]]:
        """Start a group of runs on slots."""
        for slot in taken:
            self.busy[slot] = True
        names = list(dict.fromkeys(self.names[slot] for slot in taken))
        first = taken[0]
        if len(taken) > 1:  # their processes see one device only, and hold memory on it
            for slot in taken:
                self._drop(slot)
        pool = self.pools[first]
        if pool is None:
            visible = None if names == [None] else ",".join(str(name) for name in names)
            context = forkserver.context(visible is None, ["slnlab.training.assemble"], ONE_THREAD)
            pool = ProcessPoolExecutor(1, context, _begin, (visible, forkserver.Surroundings()))
            self.pools[first] = pool
        try:
            return pool.submit(_work, group, self._threads())
        except BrokenProcessPool:  # its process died after its last run
            self._drop(first)
            return self.submit(taken, group)

    def free(self, taken: list[int], broken: bool) -> None:
        """Free slots. `broken` also ends their process."""
        for slot in taken:
            self.busy[slot] = False
        if broken or len(taken) > 1:  # it is dead or unsound, or sees several devices
            self._drop(taken[0])

    def signal_all(self) -> None:
        """Ask all runs to stop."""
        for pool in self.pools:
            for process in list((getattr(pool, "_processes", None) or {}).values()):
                if process.is_alive():
                    os.kill(process.pid, getattr(signal, "SIGUSR2", signal.SIGINT))

    def close(self) -> None:
        """End all processes and wait for them."""
        for slot in range(len(self.pools)):
            self._drop(slot)
        self.ending.shutdown()

    def _drop(self, slot: int) -> None:
        pool = self.pools[slot]
        if pool is not None:
            self.ending.submit(pool.shutdown, cancel_futures=True)
        self.pools[slot] = None

    def _threads(self) -> int:
        """The threads of each process of a run: a slot's share of the cores."""
        return max(1, cores() // len(self.names))


def devices_here(count: int | None, plan: Sequence[Planned]) -> list[str | None]:
    """The names of the GPUs to use, or one None for each core if there are no GPUs or no run of the plan may use them.

    Raises:
        ConfigError: the machine has fewer.
    """
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    cpu_only = all(planned.config.trainer.accelerator == "cpu" for planned in plan)
    if torch.cuda.is_available() and not cpu_only:
        count_here = torch.cuda.device_count()
        found: list[str | None] = [*visible.split(",")] if visible else [str(i) for i in range(count_here)]
        if not str(found[0]).startswith("MIG-"):  # CUDA sees one part of a divided GPU at a time
            del found[count_here:]
    else:
        found = [None] * cores()
    if count is not None and not 1 <= count <= len(found):
        kind = "GPUs" if found[0] else "cores"
        raise ConfigError(f"hydra.launcher.devices: {count}, but this machine has {len(found)} {kind}")
    return found[:count]


# In the processes


def _begin(devices: str | None, surroundings: forkserver.Surroundings) -> None:
    """Prepare a process, before it imports PyTorch or after its fork from a server with one thread."""
    surroundings.take_over()
    os.environ.update(ONE_THREAD)
    if devices is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = devices
    # An orphan would hold the lock of its run. Windows has no SIGKILL.
    forkserver.end_with_parent(getattr(signal, "SIGKILL", signal.SIGTERM))
    for number in SIGNALS:  # between runs there is nothing to stop
        signal.signal(number, signal.SIG_IGN)


def _work(group: Sequence[Planned], threads: int) -> list[Outcome]:
    return execute_together([planned.on_threads(threads) for planned in group])
