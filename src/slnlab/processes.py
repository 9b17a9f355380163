"""Start the processes of one run on this machine, and end them together.

The processes are new interpreters that call a function with plain arguments. Nothing of the command line is repeated
in them, so a run of several processes works the same from Python, from one command and inside a sweep.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import ProcessContext, ProcessExitedException, ProcessRaisedException, start_processes

from slnlab.errors import SlnlabError
from slnlab.stopping import SIGNALS, Stopped, obeying_signals, stop_if_told, stopped, told

log = logging.getLogger(__name__)

GRACE = 10.0
"""Seconds in which the others may end by themselves when one process has ended; then SIGTERM, and SIGKILL."""

FORWARDED = signal.SIGUSR2 if hasattr(signal, "SIGUSR2") else signal.SIGINT
"""What the processes are sent when this one is told to stop, by whichever signal."""


def in_processes(count: int, on_gpus: bool, function: Callable[..., None], *arguments: Any) -> None:
    """Call `function(*arguments)` in `count` new processes that form a process group, and wait for them.

    A process that ends with an error takes the others down.

    Args:
        count: of processes, at least 2.
        on_gpus: each has the GPU of its rank, and they talk through NCCL; else through gloo.
        function: at the top level of a module.
        arguments: anything that can be pickled.

    Raises:
        SlnlabError: that of the process that failed, or one that says how it ended.
        Stopped: this process, or one of them, was told to stop.
    """
    logs = [handler.baseFilename for handler in log.root.handlers if isinstance(handler, logging.FileHandler)]
    with tempfile.TemporaryDirectory(prefix="slnlab-") as folder:
        context = start_processes(
            _one_of_them,
            (count, on_gpus, Path(folder), logs, function, arguments),
            nprocs=count,
            join=False,
            start_method="spawn",
        )
        assert context is not None
        try:
            _wait(context)
        except (ProcessRaisedException, ProcessExitedException) as failure:
            raise _explained(failure, Path(folder), count) from None
        finally:
            for process in context.processes:
                if process.is_alive():
                    process.kill()


def _wait(context: ProcessContext) -> None:
    """Until all have ended, handing on a signal once."""
    forwarded = False
    while not context.join(timeout=0.2, grace_period=GRACE):
        if told() and not forwarded:
            forwarded = True
            for process in context.processes:
                if process.is_alive() and process.pid is not None:
                    os.kill(process.pid, FORWARDED)


def _explained(
    failure: ProcessRaisedException | ProcessExitedException, folder: Path, count: int
) -> SlnlabError | Stopped:
    """What one process's end means for the run."""
    code = getattr(failure, "exit_code", 1)
    received = told() or next((number for number in SIGNALS if code == 128 + number), None)
    if received is not None:
        return stopped(received)
    # One that failed for a reason of its own, rather than one that lost the connection to it.
    for file in sorted(folder.glob("error*")):
        error: SlnlabError = pickle.loads(file.read_bytes())  # written by our own process
        return error
    who = f"process {failure.error_index} of {count}, counted from 0,"
    if isinstance(failure, ProcessRaisedException):
        return SlnlabError(f"{who} failed: {failure}")
    return SlnlabError(f"{who} has died ({failure}); the same command goes on after the last finished epoch")


def _one_of_them(
    rank: int,
    count: int,
    on_gpus: bool,
    folder: Path,
    logs: list[str],
    function: Callable[..., None],
    arguments: tuple[Any, ...],
) -> None:
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if rank == 0:
        handlers += map(logging.FileHandler, logs)
    logging.basicConfig(
        level=logging.INFO if rank == 0 else logging.ERROR,
        format="[%(asctime)s][%(name)s][%(levelname)s] - %(message)s",
        handlers=handlers,
    )
    logging.getLogger("slnlab.stopping").setLevel(logging.ERROR)  # the process that started this one says it
    os.environ["LOCAL_RANK"] = str(rank)  # so Lightning knows that the processes are started already
    if on_gpus:
        torch.cuda.set_device(rank)
    with obeying_signals():
        dist.init_process_group(
            "nccl" if on_gpus else "gloo",
            # A file, not a port: two runs that start at the same moment cannot meet.
            init_method=(folder / "rendezvous").as_uri(),
            rank=rank,
            world_size=count,
        )
        try:
            function(*arguments)
        except SlnlabError as error:
            (folder / f"error{rank}").write_bytes(pickle.dumps(error))
            sys.exit(1)
        except Exception:
            stop_if_told()  # and the others have gone already
            raise
    dist.destroy_process_group()
