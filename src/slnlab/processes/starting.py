"""The processes of one run: started here and ended together, or joined, where SLURM or torchrun has started them.

Those that are started call a function with plain arguments. Nothing of the command line is repeated in them, so a run
of several processes works the same from Python, from one command and inside a sweep.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning.plugins.environments import ClusterEnvironment, SLURMEnvironment, TorchElasticEnvironment
from torch.multiprocessing.spawn import ProcessContext, ProcessExitedException, ProcessRaisedException, start_processes

from slnlab.errors import ConfigError, SlnlabError
from slnlab.processes import forkserver
from slnlab.processes.distributed import stopping_together, world_size
from slnlab.processes.peers import watching
from slnlab.processes.stopping import SIGNALS, Stopped, obeying_signals, received_signal, stop_if_requested, stopped
from slnlab.text.terminal import log_file

log = logging.getLogger(__name__)

GRACE = 10.0
"""Seconds in which the others may end by themselves when one process has ended; then SIGTERM, and SIGKILL."""

FORWARDED = signal.SIGUSR2 if hasattr(signal, "SIGUSR2") else signal.SIGINT
"""What the processes are sent when this one is told to stop, by whichever signal."""


@contextmanager
def joined(
    devices: int, num_nodes: int, on_gpus: bool, ended: Callable[[str], None] = lambda _: None
) -> Iterator[None]:
    """Inside the block, where SLURM (`srun` with several tasks) or torchrun has started this run's processes, they form
    a process group; otherwise, and in a group already, nothing changes.

    Args:
        devices, num_nodes: of the run.
        on_gpus: this process takes the GPU of its place on the node, or the only one that it sees.
        ended: called with the reason when this process is ended because another one has failed.

    Raises:
        ConfigError: there are more or fewer processes than the run is for, or it is unknown how many a node has.
    """
    found = started_by()
    if found is None or dist.is_initialized():
        if num_nodes > 1 and not dist.is_initialized():
            raise ConfigError(
                f"trainer.num_nodes={num_nodes}: slnlab starts processes on one machine only; use srun or torchrun"
            )
        yield
        return
    who, environment = found
    if environment.world_size() != devices * num_nodes:
        raise ConfigError(
            f"trainer.devices={devices}, trainer.num_nodes={num_nodes}: {who} has started {environment.world_size()} "
            "processes for this run"
        )
    before = {name: os.environ.get(name) for name in ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE")}
    os.environ["LOCAL_RANK"], os.environ["NODE_RANK"] = str(environment.local_rank()), str(environment.node_rank())
    if on_gpus:
        torch.cuda.set_device(gpu_of(environment.local_rank()))
    dist.init_process_group(
        "nccl" if on_gpus else "gloo",
        init_method=f"tcp://{environment.main_address}:{environment.main_port}",
        rank=environment.global_rank(),
        world_size=environment.world_size(),
    )
    left: threading.Event | None = None
    try:
        with stopping_together() as group:
            if on_gpus:
                _refuse_to_share(group)
            with watching(environment.main_address, ended) as left:
                yield
    finally:
        dist.destroy_process_group()
        if left is not None:
            left.set()
        for name, value in before.items():
            os.environ.pop(name, None)  # Lightning has removed one of them
            if value is not None:
                os.environ[name] = value


def gpu_of(local_rank: int) -> int:
    """Which of the GPUs that it sees is a process's: that of its place on the machine, or the only one."""
    return local_rank if torch.cuda.device_count() > 1 else 0


def _refuse_to_share(group: dist.ProcessGroup) -> None:
    """
    Raises:
        ConfigError: two processes have the same GPU.
    """
    gpus: list[str] = [""] * world_size()
    dist.all_gather_object(gpus, str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid), group)
    same = [number for number, gpu in enumerate(gpus) if gpus.count(gpu) > 1]
    if same:
        raise ConfigError(
            f"trainer.devices: processes {same[0]} and {same[1]} have the same GPU; each must see all GPUs of its "
            "machine, or one of its own (--gpus-per-task=1)"
        )


def started_by() -> tuple[str, ClusterEnvironment] | None:
    """Who else has started this run's processes, if anybody, and what it says of them."""
    if TorchElasticEnvironment.detect():  # also within a job of SLURM's
        return "torchrun", TorchElasticEnvironment()
    # Of the step, not of the allocation: a shell within it (salloc) has not been started so many times.
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))
    if tasks == 1 or not os.environ.get("SLURM_STEP_ID", "").isdigit():
        return None
    if "SLURM_NTASKS_PER_NODE" not in os.environ:
        raise ConfigError(f"SLURM has started {tasks} processes: say --ntasks-per-node, not --ntasks (srun -n)")
    return "SLURM", SLURMEnvironment(auto_requeue=False)


def in_processes(
    count: int, on_gpus: bool, modules: Sequence[str], function: Callable[..., None], *arguments: Any
) -> None:
    """Call `function(*arguments)` in `count` new processes that form a process group, and wait for them.

    A process that ends with an error takes the others down.

    Args:
        count: of processes, at least 2.
        on_gpus: each has the GPU of its rank, and they talk through NCCL; else through gloo.
        modules: that the function needs.
        function: at the top level of a module.
        arguments: anything that can be pickled.

    Raises:
        SlnlabError: that of the process that failed, or one that says how it ended.
        Stopped: this process, or one of them, was told to stop.
    """
    logs = [handler.baseFilename for handler in log.root.handlers if isinstance(handler, logging.FileHandler)]
    with tempfile.TemporaryDirectory(prefix="slnlab-") as folder:
        method = forkserver.context(not on_gpus, modules).get_start_method()
        context = start_processes(
            _one_of_them,
            (forkserver.Surroundings(), count, on_gpus, Path(folder), logs, function, arguments),
            nprocs=count,
            join=False,
            start_method=method,
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
        if received_signal() and not forwarded:
            forwarded = True
            for process in context.processes:
                if process.is_alive() and process.pid is not None:
                    os.kill(process.pid, FORWARDED)


def _explained(
    failure: ProcessRaisedException | ProcessExitedException, folder: Path, count: int
) -> SlnlabError | Stopped:
    """What one process's end means for the run."""
    code = getattr(failure, "exit_code", 1)
    received = received_signal() or next((number for number in SIGNALS if code == 128 + number), None)
    if received is not None:
        return stopped(received)
    # One that failed for a reason of its own, rather than one that lost the connection to it.
    for file in sorted(folder.glob("error*")):
        error: SlnlabError = pickle.loads(file.read_bytes())  # written by our own process
        return error
    who = f"process {failure.error_index} of {count}, counted from 0,"
    if isinstance(failure, ProcessRaisedException):
        return SlnlabError(f"{who} failed: {failure}")
    return SlnlabError(f"{who} has died ({failure}); the same command goes on from what was saved last")


def _one_of_them(
    rank: int,
    surroundings: forkserver.Surroundings,
    count: int,
    on_gpus: bool,
    folder: Path,
    logs: list[str],
    function: Callable[..., None],
    arguments: tuple[Any, ...],
) -> None:
    surroundings.take_over()
    forkserver.end_with_parent(signal.SIGINT)
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if rank == 0:
        handlers += map(log_file, logs)
    logging.basicConfig(
        level=logging.INFO if rank == 0 else logging.ERROR,
        format="[%(asctime)s][%(name)s][%(levelname)s] - %(message)s",
        handlers=handlers,
    )
    logging.getLogger("slnlab.processes.stopping").setLevel(logging.ERROR)  # the process that started this one says it
    os.environ["LOCAL_RANK"] = str(rank)  # so Lightning knows that the processes are started already
    if on_gpus:
        torch.cuda.set_device(rank)
    with obeying_signals():
        dist.init_process_group(
            "nccl" if on_gpus else "gloo",
            # A file, not a port: two runs that start at the same moment cannot meet.
            init_method=f"file://{folder / 'rendezvous'}",
            rank=rank,
            world_size=count,
        )
        try:
            with stopping_together():
                function(*arguments)
        except SlnlabError as error:
            (folder / f"error{rank}").write_bytes(pickle.dumps(error))
            sys.exit(1)
        except Exception:
            stop_if_requested()  # and the others have gone already
            raise
    dist.destroy_process_group()
