"""Side by side on this machine: every GPU, or every core, has one run (or a few small ones) at a time.

The engine is `concurrent.futures`: per slot an executor with a single process, which is kept for the next run, so that
a run costs its training and not another import of PyTorch. A process that dies takes nobody with it but its run, which
is why there is not one pool for all (a dead worker breaks a whole pool, joblib's too).
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
from slnlab.launchers.planned import Outcome, Planned, do
from slnlab.processes import forkserver
from slnlab.processes.cores import cores
from slnlab.processes.stopping import SIGNALS, obeying_signals, received_signal, stopped

log = logging.getLogger(__name__)

ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""Of a process between two runs; a run says how many it has."""


def launch(
    plan: Sequence[Planned], *, folder: Path, runs_per_device: int = 1, devices: int | None = None
) -> list[Outcome]:
    """Do the runs, several at a time, the first ones first; a run of several processes takes as many slots.

    Args:
        plan: what to do.
        folder: of the sweep; not used.
        runs_per_device: runs that share a GPU. On the CPU: 1.
        devices: how many GPUs, or cores, to use; None: all.

    Returns:
        What became of each, in the order of `plan`.

    Raises:
        ConfigError: more devices than there are, or a run that needs more than there are slots for.
        Stopped: told to stop; the runs have stopped too.
    """
    slots = Slots(_devices(devices), runs_per_device)
    for planned in plan:
        if planned.config.trainer.devices > slots.devices:
            raise ConfigError(
                f"trainer.devices={planned.config.trainer.devices}: launcher=local has {slots.devices} devices here"
            )
    outcomes: list[Outcome | None] = [None] * len(plan)
    waiting, running = list(range(len(plan))), dict[Future[Outcome], tuple[int, list[int]]]()
    forward_again = 0.0
    with obeying_signals():
        try:
            while waiting or running:
                while waiting and not received_signal():
                    taken = slots.take(plan[waiting[0]].config.trainer.devices)
                    if not taken:
                        break
                    number = waiting.pop(0)
                    log.info("start %d/%d: %s", number + 1, len(plan), plan[number])
                    running[slots.submit(taken, plan[number])] = (number, taken)
                if received_signal() and time.monotonic() > forward_again:  # a process between two runs misses a signal
                    forward_again = time.monotonic() + 5
                    slots.signal_all()
                if not running:
                    break
                done, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in done:
                    number, taken = running.pop(future)
                    outcome = outcomes[number] = _outcome(future, plan[number])
                    slots.free(taken, broken=not outcome.sound)
        finally:
            if received_signal():  # a second signal has come before they were told of the first
                slots.signal_all()
            slots.close()
        received = received_signal()
        if received is not None:
            raise stopped(received)
    return [outcome for outcome in outcomes if outcome is not None]


def _outcome(future: Future[Outcome], planned: Planned) -> Outcome:
    try:
        return future.result()
    except BrokenProcessPool:
        message = "its process has died; the same command goes on from what was saved last"
        return Outcome("failed", message, str(planned.directory / "train.log"), sound=False)
    except SystemExit:  # told to stop
        return Outcome("failed", "stopped")


class Slots:
    """What runs can be put on: so many on every device.

    Args:
        devices: GPU numbers as CUDA knows them, or None for every core.
        each: runs that share one.
    """

    def __init__(self, devices: list[str | None], each: int) -> None:
        self.names = [device for _ in range(each) for device in devices]
        self.devices, self.each = len(devices), each
        self.busy = [False] * len(self.names)
        self.pools: list[ProcessPoolExecutor | None] = [None] * len(self.names)
        # Somebody waits for each process that ends: an executor that is still at it when Python ends prints an error.
        self.ending = ThreadPoolExecutor(len(self.names))

    def take(self, count: int) -> list[int]:
        """Free slots on so many devices, none of which several ranks share; empty: there are not enough now."""
        if count == 1:
            free = [slot for slot, busy in enumerate(self.busy) if not busy]
            return free[:1]
        whole = [d for d in range(self.devices) if not any(self.busy[d :: self.devices])]
        taken = whole[:count] if len(whole) >= count else []
        return [slot for d in taken for slot in range(d, len(self.names), self.devices)]

    def submit(self, taken: list[int], planned: Planned) -> Future[Outcome]:
        for slot in taken:
            self.busy[slot] = True
        names = list(dict.fromkeys(self.names[slot] for slot in taken))
        first = taken[0]
        if len(taken) > 1:  # what is there knows one device only, and holds memory on it
            for slot in taken:
                self._drop(slot)
        pool = self.pools[first]
        if pool is None:
            on = None if names == [None] else ",".join(str(name) for name in names)
            how = forkserver.context(on is None, ["slnlab.training.assemble"], ONE_THREAD)
            pool = ProcessPoolExecutor(1, how, _begin, (on, forkserver.Surroundings()))
            self.pools[first] = pool
        try:
            return pool.submit(_work, planned, self._threads())
        except BrokenProcessPool:  # it has died since its last run
            self._drop(first)
            return self.submit(taken, planned)

    def free(self, taken: list[int], broken: bool) -> None:
        for slot in taken:
            self.busy[slot] = False
        if broken or len(taken) > 1:  # it has died or may be unfit, or knows several devices
            self._drop(taken[0])

    def signal_all(self) -> None:
        for pool in self.pools:
            for process in list((getattr(pool, "_processes", None) or {}).values()):
                if process.is_alive():
                    os.kill(process.pid, getattr(signal, "SIGUSR2", signal.SIGINT))

    def close(self) -> None:
        for slot in range(len(self.pools)):
            self._drop(slot)
        self.ending.shutdown()

    def _drop(self, slot: int) -> None:
        pool = self.pools[slot]
        if pool is not None:
            self.ending.submit(pool.shutdown, cancel_futures=True)
        self.pools[slot] = None

    def _threads(self) -> int:
        """Of each process of a run: a slot's share of the cores."""
        return max(1, cores() // len(self.names))


def _devices(count: int | None) -> list[str | None]:
    """The GPUs by name, or as many None as there are cores to use."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if torch.cuda.is_available():
        gpus = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
        here: list[str | None] = list(gpus)
    else:
        here = [None] * cores()
    if count is not None and not 1 <= count <= len(here):
        kind = "GPUs" if here[0] else "cores"
        raise ConfigError(f"hydra.launcher.devices: {count}, but this machine has {len(here)} {kind}")
    return here[:count]


# In the processes


def _begin(devices: str | None, surroundings: forkserver.Surroundings) -> None:
    """Before anything of PyTorch is imported, or in a fork of a process that has imported it with one thread."""
    surroundings.take_over()
    os.environ.update(ONE_THREAD)
    if devices is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = devices
    forkserver.end_with_parent(signal.SIGKILL)  # nobody would wait for it, and the same command could not take its run
    for number in SIGNALS:  # between runs there is nothing to stop
        signal.signal(number, signal.SIG_IGN)


def _work(planned: Planned, threads: int) -> Outcome:
    changes = {"trainer.progress": False, "trainer.threads": planned.config.trainer.threads or threads}  # no many bars
    if "workers" in planned.config.data and planned.config.data.workers is None:
        changes["data.workers"] = threads
    return do(planned.changed(changes))
